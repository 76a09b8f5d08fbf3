//! The frame of a page, and what keeps data from being taken for HTML.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::{self, Display, Write};

/// The policy of every page: nothing from elsewhere, nothing that runs, no frame round it.
pub const NO_SCRIPTS: &str = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; \
                              frame-ancestors 'none'; base-uri 'none'";

/// Text as it is shown, in an element or in a quoted attribute.
pub struct Text<'a>(pub &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(c)?,
                // Also those that turn the direction of what follows.
                c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                    f.write_char('\u{fffd}')?;
                }
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A value in the query of an address.
pub fn in_query(value: &str) -> impl Display + '_ {
    utf8_percent_encode(value, NON_ALPHANUMERIC)
}

/// What every page is told.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Where the pages stand, as `/admin/queues`.
    pub root: &'a str,
    /// What they are a part of, where they are a part of something.
    pub home: Option<&'a str>,
    /// The address of this page, with its query: where its forms come back to.
    pub here: &'a str,
    pub now_ms: u64,
}

/// A whole page. `refresh`: it looks again by itself, each so many seconds.
pub fn page(root: &str, title: &str, refresh: Option<u32>, inner: &str) -> String {
    let refresh = refresh.map(|s| format!("<meta http-equiv=\"refresh\" content=\"{s}\">")).unwrap_or_default();
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">{refresh}<title>{title}</title>\
         <link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"{root}/style.css\"></head>\
         <body>{inner}</body></html>\n",
        title = Text(title),
        root = Text(root),
    )
}

/// Why something was not done.
pub fn refused(root: &str, message: &str) -> String {
    let inner = format!(
        "<header><h1>Not done</h1></header><p>{}</p><p><a href=\"{}\">Queues</a></p>",
        Text(message),
        Text(root)
    );
    page(root, "Not done", None, &inner)
}

/// That what a form has begun takes longer than a page.
pub fn goes_on(root: &str) -> String {
    let inner = format!(
        "<header><h1>Goes on</h1></header><p>This takes longer than a page. It is finished in any case and then \
         stands in the audit: <code>mainstay journal --audit</code>. How far it is can be seen by the queue's \
         numbers.</p><p><a href=\"{}\">Queues</a></p>",
        Text(root)
    );
    page(root, "Goes on", None, &inner)
}

/// A button that does one thing and comes back. `sure`: it is reached by a second click.
pub fn button(place: &Place<'_>, label: &str, sure: bool, fields: &[(&str, &str)]) -> String {
    let mut form = format!("<form method=\"post\" action=\"{}/do\">", Text(place.root));
    for (name, value) in fields.iter().chain(&[("back", place.here)]) {
        let _ = write!(form, "<input type=\"hidden\" name=\"{name}\" value=\"{}\">", Text(value));
    }
    let _ = write!(form, "<button>{}</button></form>", Text(label));
    match sure {
        true => format!("<details class=\"sure\"><summary>{}…</summary> {form}</details>", Text(label)),
        false => form,
    }
}

/// `5m 2s ago`, `in 3s`.
pub fn when(now_ms: u64, at_ms: u64) -> String {
    match now_ms.checked_sub(at_ms) {
        Some(past) => format!("{} ago", span(past)),
        None => format!("in {}", span(at_ms - now_ms)),
    }
}

/// The two largest units.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let first = parts.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    parts[first..].iter().take(2).map(|(n, unit)| format!("{n}{unit}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_text_whatever_it_is() {
        let shown = Text("<script>\"a\" & 'b'\u{1b}[31m\u{202e}\nx</script>").to_string();
        assert_eq!(shown, "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;\u{fffd}[31m\u{fffd}\nx&lt;/script&gt;");
        let place = Place { root: "/q", home: None, here: "/q?a=\"><b>", now_ms: 0 };
        let form = button(&place, "Retry", false, &[("id", "\"><script>")]);
        assert!(!form.contains("<script>") && !form.contains("<b>"), "{form}");
    }

    #[test]
    fn times_are_told_from_now() {
        assert_eq!(when(10_000, 5_000), "5s ago");
        assert_eq!(when(0, 90_000), "in 1m 30s");
        assert_eq!(when(5, 3), "2ms ago");
        assert_eq!(span(90_061_000), "1d 1h");
    }
}
