-- The twin of window.rs: the same decisions on the same input, one key a call. Whoever changes one changes the other.
--
-- KEYS[1]  the count
-- ARGV     kind (stamps, parts, smooth), count, window in ms, what to give back or '', now in us or '' for TIME
-- Answer   allowed (1 or 0), remaining, reset in us, mark in us; of what is given back: 1 if it was there
--
-- Whole numbers below 2^53 throughout. A key outlives what it counts by a second.

local key = KEYS[1]
local kind, count, window = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local back, now = ARGV[4], tonumber(ARGV[5])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local function text(number) return string.format('%.0f', number) end
local function number(found) return found and tonumber(found) end
local function answer(allowed, remaining, reset, mark)
  return { allowed and 1 or 0, remaining, max(reset, 0), mark }
end

if kind == 'stamps' then
  if back ~= '' then
    return redis.call('LREM', key, -1, text(ceil(tonumber(back) / 1000)))
  end
  local now_ms = floor(now / 1000)
  local newest = number(redis.call('LINDEX', key, -1)) or 0
  if now_ms >= newest + window or newest > ceil(now / 1000) + window then
    redis.call('DEL', key)
    newest = 0
  end
  local oldest = number(redis.call('LINDEX', key, 0))
  while oldest and now_ms >= oldest + window do
    redis.call('LPOP', key)
    oldest = number(redis.call('LINDEX', key, 0))
  end
  local used = redis.call('LLEN', key)
  if used >= count then
    local leaves = number(redis.call('LINDEX', key, used - count))
    return answer(false, 0, (leaves + window) * 1000 - now, now)
  end
  local at = max(ceil(now / 1000), newest)
  redis.call('RPUSH', key, text(at))
  redis.call('PEXPIRE', key, text(window + 1000))
  return answer(true, count - used - 1, ((oldest or at) + window) * 1000 - now, at * 1000)
end

if kind == 'smooth' then
  local distance = ceil(window * 1000 / count)
  local til = number(redis.call('GET', key)) or 0
  if back ~= '' then
    return til == tonumber(back) + distance and redis.call('DEL', key) or 0
  end
  if til > now + distance + window * 1000 then til = 0 end
  local allowed = til <= now
  if allowed then
    til = now + distance
    redis.call('SET', key, text(til), 'PX', text(ceil(distance / 1000) + 1000))
  end
  return answer(allowed, 0, til - now, now)
end

-- Parts: a hash of how many there were in each, with the length of a part, the last one, the total, and the oldest
-- that may hold any.
local part = ceil(window * 1000 / 64)
local known = redis.call('HMGET', key, 'part', 'last', 'total', 'oldest')
local length, last, total, oldest = number(known[1]), number(known[2]), number(known[3]), number(known[4])
if back ~= '' then
  -- In the parts it was counted in, whatever they are now.
  local at = length and floor(tonumber(back) / length)
  if not at or at > last or at + 64 < last then return 0 end
  if (number(redis.call('HGET', key, text(at))) or 0) == 0 then return 0 end
  redis.call('HINCRBY', key, text(at), -1)
  redis.call('HINCRBY', key, 'total', -1)
  return 1
end

local this = floor(now / part)
if length and length ~= part then
  -- Another window than before: whoever counted goes on, each at the end of its old part.
  local all, moved = redis.call('HGETALL', key), {}
  redis.call('DEL', key)
  last, total, oldest = this, 0, this
  for i = 1, #all, 2 do
    local index, times = tonumber(all[i]), tonumber(all[i + 1])
    local at = index and floor(min((index + 1) * length - 1, now) / part)
    if at and times > 0 and at + 65 > this then
      redis.call('HINCRBY', key, text(at), times)
      total, oldest = total + times, min(oldest, at)
    end
  end
elseif not last or this >= last + 65 or last > this + 65 then
  redis.call('DEL', key)
  last, total, oldest = this, 0, this
elseif this > last then
  local gone = {}
  for index = max(oldest, last - 64), this - 65 do gone[#gone + 1] = text(index) end
  if #gone > 0 then
    for _, times in ipairs(redis.call('HMGET', key, unpack(gone))) do
      total = total - (number(times) or 0)
    end
    redis.call('HDEL', key, unpack(gone))
  end
  last, oldest = this, max(oldest, this - 64)
end

local allowed = total < count
if allowed then
  redis.call('HINCRBY', key, text(last), 1)
  total = total + 1
end
local needed, left, index = allowed and 1 or total - count + 1, 0, oldest
while index <= last do
  local times = number(redis.call('HGET', key, text(index))) or 0
  if left == 0 and times > 0 then oldest = index end
  left = left + times
  if left >= needed then break end
  index = index + 1
end
redis.call('HSET', key, 'part', text(part), 'last', text(last), 'total', text(total), 'oldest', text(oldest))
redis.call('PEXPIRE', key, text(ceil(65 * part / 1000) + 1000))
local reset = (min(index, last) + 65) * part - now
return answer(allowed, max(count - total, 0), reset, max(now, last * part))
