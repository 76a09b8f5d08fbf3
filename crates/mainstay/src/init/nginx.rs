//! nginx.conf: directives with their lines, and what of them Mainstay has a key for.
//!
//! Never follows an `include`: what lies elsewhere is said to lie there.

mod answers;
mod servers;
mod words;

use super::found::Found;
use std::path::Path;

/// nginx itself nests four deep.
const DEPTH_MAX: usize = 32;

/// `name args;` or `name args { block }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    pub name: String,
    pub args: Vec<String>,
    /// From 1.
    pub line: usize,
    pub block: Option<Vec<Directive>>,
}

impl Directive {
    pub fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }

    pub fn inner(&self) -> &[Directive] {
        self.block.as_deref().unwrap_or_default()
    }

    pub fn find<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Directive> {
        self.inner().iter().filter(move |directive| directive.name == name)
    }
}

pub fn read(dir: &Path, file: &str, text: &str, found: &mut Found) {
    match parse(text) {
        Ok(directives) => servers::read(dir, file, &directives, found),
        Err((line, what)) => found.not_understood(format!("{file}:{line}"), &what),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Open,
    Close,
    End,
}

pub fn parse(text: &str) -> Result<Vec<Directive>, (usize, String)> {
    let tokens = tokens(text)?;
    let mut open: Vec<Directive> = Vec::new();
    let mut done: Vec<Vec<Directive>> = vec![Vec::new()];
    let mut words: Vec<String> = Vec::new();
    let mut begun = 1;
    let mut last_line = 1;
    for (token, line) in tokens {
        last_line = line;
        match token {
            Token::Word(word) => {
                if words.is_empty() {
                    begun = line;
                }
                words.push(word);
            }
            Token::End if words.is_empty() => {}
            Token::End => put(&mut done, directive(&mut words, begun, None)),
            Token::Open if words.is_empty() => return Err((line, "`{` without a name before it".to_owned())),
            Token::Open if open.len() >= DEPTH_MAX => return Err((line, "blocks nested too deep".to_owned())),
            Token::Open => {
                open.push(directive(&mut words, begun, None));
                done.push(Vec::new());
            }
            Token::Close if !words.is_empty() => return Err((line, format!("`{}` without `;`", words.join(" ")))),
            Token::Close => {
                let (Some(mut closed), Some(block)) = (open.pop(), done.pop().filter(|_| !done.is_empty())) else {
                    return Err((line, "`}` without `{`".to_owned()));
                };
                closed.block = Some(block);
                put(&mut done, closed);
            }
        }
    }
    if let Some(left) = open.last() {
        return Err((left.line, format!("`{} {{` is never closed", left.name)));
    }
    if !words.is_empty() {
        return Err((last_line, format!("`{}` without `;`", words.join(" "))));
    }
    Ok(done.pop().unwrap_or_default())
}

fn put(done: &mut [Vec<Directive>], directive: Directive) {
    if let Some(list) = done.last_mut() {
        list.push(directive);
    }
}

fn directive(words: &mut Vec<String>, line: usize, block: Option<Vec<Directive>>) -> Directive {
    let mut words = std::mem::take(words).into_iter();
    Directive { name: words.next().unwrap_or_default(), args: words.collect(), line, block }
}

/// Words, quoted or not; `#` begins a comment at the beginning of a word, `\` takes the next character as it is.
fn tokens(text: &str) -> Result<Vec<(Token, usize)>, (usize, String)> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    let mut line = 1;
    while let Some(c) = chars.next() {
        match c {
            '\n' => line += 1,
            c if c.is_whitespace() => {}
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            ';' => tokens.push((Token::End, line)),
            '{' => tokens.push((Token::Open, line)),
            '}' => tokens.push((Token::Close, line)),
            quote @ ('"' | '\'') => {
                let (begun, mut word) = (line, String::new());
                loop {
                    match chars.next() {
                        None => return Err((begun, format!("a {quote} that is never closed"))),
                        Some(c) if c == quote => break,
                        Some('\\') => word.extend(chars.next()),
                        Some(c) => {
                            line += usize::from(c == '\n');
                            word.push(c);
                        }
                    }
                }
                tokens.push((Token::Word(word), begun));
            }
            c => {
                let mut word = String::from(c);
                // `${name}` within a word is a variable, and no block.
                while let Some(next) = chars.peek().copied() {
                    let in_variable = word.ends_with('$') && next == '{' || is_open_variable(&word);
                    if !in_variable && (next.is_whitespace() || ";{}".contains(next)) || next == '\n' {
                        break;
                    }
                    word.push(next);
                    chars.next();
                }
                tokens.push((Token::Word(word), line));
            }
        }
    }
    Ok(tokens)
}

fn is_open_variable(word: &str) -> bool {
    word.rfind("${").is_some_and(|at| !word[at..].contains('}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_comments_quotes_and_lines() {
        let text = "a 1 2; # c {\nhttp {\n  log_format m '$x {y};\n z';\n  set $u \"${v}a\" b${w}c;\n}\n";
        let all = parse(text).expect("a file");
        assert_eq!((all[0].name.as_str(), all[0].args.len(), all[0].line), ("a", 2, 1));
        let http = &all[1];
        assert_eq!((http.line, http.inner().len()), (2, 2));
        assert_eq!(http.inner()[0].args, ["m", "$x {y};\n z"]);
        assert_eq!((http.inner()[1].line, http.inner()[1].arg(2)), (5, "b${w}c"));
    }

    #[test]
    fn what_is_broken_says_where() {
        for (text, line) in
            [("a {\n b 1;\n", 1), ("a 1;\n}\n", 2), ("a 1;\n'b\n", 2), ("a {\n b\n}\n", 3), ("{", 1), ("a\nb", 2)]
        {
            assert_eq!(parse(text).expect_err(text).0, line, "{text:?}");
        }
        assert!(parse(&"a {".repeat(1000)).is_err());
    }
}
