//! Stack traces in an app's error pages: recognised, so that they stay inside (E17). Pure.

/// Error bodies up to this are looked at; a longer one passes.
pub const LOOKED_AT_BYTES_MAX: u64 = 64 * 1024;

/// Marks of a stack trace in the common runtimes. Each is specific enough not to stand in a sentence for users.
const MARKS: [&[u8]; 10] = [
    b"Traceback (most recent call last)",
    b"\n    at ",
    b"\\n    at ",
    b"<br> &nbsp; &nbsp;at ",
    b"\n\tat ",
    b"\\n\\tat ",
    b"goroutine 1 [",
    b"stack backtrace:",
    b"thread 'main' panicked at",
    b"File \\\"/",
];

pub fn holds_trace(body: &[u8]) -> bool {
    MARKS.iter().any(|mark| body.windows(mark.len()).any(|w| w == *mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_of_common_runtimes_are_seen_and_plain_errors_are_not() {
        for trace in [
            "TypeError: x\n    at Layer.handle (/app/node_modules/express/lib/router/layer.js:95:5)",
            "<pre>Error: boom<br> &nbsp; &nbsp;at /srv/app.js:3:9</pre>",
            r#"{"error":"boom","stack":"Error: boom\n    at f (/srv/a.js:1:2)"}"#,
            "Traceback (most recent call last):\n  File \"/app/x.py\", line 1",
            "java.lang.Error\n\tat com.example.Main.main(Main.java:5)",
            "panic: x\n\ngoroutine 1 [running]:\nmain.main()",
        ] {
            assert!(holds_trace(trace.as_bytes()), "{trace}");
        }
        for plain in ["", r#"{"error":"Something went wrong","requestId":"r_1"}"#, "Meet us at the office\nat noon"] {
            assert!(!holds_trace(plain.as_bytes()), "{plain}");
        }
    }
}
