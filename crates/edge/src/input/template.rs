//! Paths of an OpenAPI document: `/users/{id}`, `/files/{name}.{ending}`. Pure.

use super::parameter::decoded;
use std::cmp::Ordering;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// Texts and names in turn, at least one name.
    Mixed(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(String),
}

impl Template {
    /// Of a path below the path of a server, which may hold variables too.
    pub fn parse(base: &str, path: &str) -> Result<Template, String> {
        let segments = base.split('/').chain(path.split('/')).filter(|s| !s.is_empty() && *s != ".");
        segments.map(parse_segment).collect::<Result<_, _>>().map(Template)
    }

    /// The values of its names, if this is one of its paths. The case of letters does not count, as for routes.
    pub fn matches<'t, 'p>(&'t self, path: &'p [String]) -> Option<Vec<(&'t str, &'p str)>> {
        if self.0.len() != path.len() {
            return None;
        }
        let mut values = Vec::new();
        for (segment, text) in self.0.iter().zip(path) {
            match segment {
                Segment::Literal(literal)
                    if decoded(text, false).is_some_and(|text| literal.eq_ignore_ascii_case(&text)) => {}
                Segment::Literal(_) => return None,
                Segment::Mixed(parts) => match_parts(parts, text, &mut values)?,
            }
        }
        Some(values)
    }

    /// Greater means more specific: what is written out goes before what is named.
    pub fn specificity(&self, other: &Template) -> Ordering {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(_) => 2,
            Segment::Mixed(parts) => u8::from(parts.len() > 1),
        };
        let ranks = |template: &Template| template.0.iter().map(rank).collect::<Vec<_>>();
        ranks(self).cmp(&ranks(other))
    }

    pub fn names(&self, name: &str) -> bool {
        let named = |parts: &[Part]| parts.iter().any(|p| matches!(p, Part::Name(n) if n == name));
        self.0.iter().any(|s| matches!(s, Segment::Mixed(parts) if named(parts)))
    }
}

fn parse_segment(text: &str) -> Result<Segment, String> {
    if !text.contains(['{', '}']) {
        // A path is compared with its escapes undone.
        let literal = decoded(text, false).unwrap_or_else(|| text.into());
        return Ok(Segment::Literal(literal.into_owned()));
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, tail) = after.split_once('}').ok_or_else(|| format!("`{text}`: a `{{` without its `}}`"))?;
        if name.is_empty() || name.contains('{') || before.contains('}') {
            return Err(format!("`{text}` is no part of a path: write `{{name}}`"));
        }
        if before.is_empty() && matches!(parts.last(), Some(Part::Name(_))) {
            return Err(format!("`{text}`: two names without anything between them"));
        }
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        parts.push(Part::Name(name.to_owned()));
        rest = tail;
    }
    if rest.contains('}') {
        return Err(format!("`{text}`: a `}}` without its `{{`"));
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(Segment::Mixed(parts))
}

/// A name takes what there is up to the text behind it; the last text ends the segment.
fn match_parts<'t, 'p>(parts: &'t [Part], text: &'p str, values: &mut Vec<(&'t str, &'p str)>) -> Option<()> {
    let mut rest = text;
    let mut waiting: Option<&str> = None;
    for (i, part) in parts.iter().enumerate() {
        match part {
            Part::Name(name) => waiting = Some(name),
            Part::Text(literal) => {
                let is_last = i + 1 == parts.len();
                let at = if is_last { rest.len().checked_sub(literal.len())? } else { find(rest, literal)? };
                if !rest.is_char_boundary(at) || !rest[at..].get(..literal.len())?.eq_ignore_ascii_case(literal) {
                    return None;
                }
                match waiting.take() {
                    Some(_) if at == 0 => return None,
                    Some(name) => values.push((name, &rest[..at])),
                    None if at > 0 => return None,
                    None => {}
                }
                rest = &rest[at + literal.len()..];
            }
        }
    }
    match waiting {
        Some(_) if rest.is_empty() => None,
        Some(name) => {
            values.push((name, rest));
            Some(())
        }
        None => rest.is_empty().then_some(()),
    }
}

fn find(text: &str, literal: &str) -> Option<usize> {
    (0..text.len())
        .filter(|&i| text.is_char_boundary(i))
        .find(|&i| text.get(i..i + literal.len()).is_some_and(|t| t.eq_ignore_ascii_case(literal)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(base: &str, template: &str, path: &str) -> Option<Vec<(String, String)>> {
        let template = Template::parse(base, template).expect(template);
        let path: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect();
        let values = template.matches(&path)?;
        Some(values.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect())
    }

    #[test]
    fn paths_are_matched_and_their_values_named() {
        for (base, template, path, expected) in [
            ("", "/users/{id}", "/users/Ab7", Some(&[("id", "Ab7")][..])),
            ("", "/users/{id}", "/USERS/7", Some(&[("id", "7")])),
            ("/api/v1", "/users/{id}", "/api/v1/users/7", Some(&[("id", "7")])),
            ("/{tenant}/", "users", "/acme/users", Some(&[("tenant", "acme")])),
            ("", "/users/{id}", "/users", None),
            ("", "/users/{id}", "/users/7/posts", None),
            ("", "/f/{name}.{ending}", "/f/a.b.c", Some(&[("name", "a"), ("ending", "b.c")])),
            ("", "/f/{name}.json", "/f/a.b.json", Some(&[("name", "a.b")])),
            ("", "/f/{name}.json", "/f/.json", None),
            ("", "/f/v{n}:go", "/f/v1:go", Some(&[("n", "1")])),
            ("", "/f/v{n}:go", "/f/w1:go", None),
            ("", "/", "/", Some(&[])),
            ("", "/straße/{id}", "/stra%C3%9Fe/%41", Some(&[("id", "%41")])),
        ] {
            let expected = expected.map(|all| all.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect());
            assert_eq!(values(base, template, path), expected, "{base} {template} {path}");
        }
    }

    #[test]
    fn what_is_written_out_goes_first_and_bad_paths_are_refused() {
        let of = |text: &str| Template::parse("", text).expect(text);
        for (more, less) in [("/users/me", "/users/{id}"), ("/f/{a}.json", "/f/{a}"), ("/a/{x}", "/{y}/b")] {
            assert_eq!(of(more).specificity(&of(less)), Ordering::Greater, "{more} {less}");
        }
        assert!(of("/a/{x}.{y}").names("y") && !of("/a/{x}").names("y"));
        for bad in ["/{", "/}", "/{}", "/{a}{b}", "/a}b{c}"] {
            assert!(Template::parse("", bad).is_err(), "{bad}");
        }
    }
}
