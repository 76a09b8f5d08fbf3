//! Flags of one command. Only long names, and what is left over is a fault.

use anyhow::{Result, bail};

#[derive(Debug)]
pub struct Arguments<'a> {
    left: Vec<&'a str>,
    /// What stood behind `--`.
    pub rest: Vec<&'a str>,
}

impl<'a> Arguments<'a> {
    pub fn new(words: &[&'a str]) -> Arguments<'a> {
        let end = words.iter().position(|word| *word == "--").unwrap_or(words.len());
        let rest = words.get(end + 1..).unwrap_or_default().to_vec();
        Arguments { left: words[..end].to_vec(), rest }
    }

    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.left.len();
        self.left.retain(|word| *word != name);
        self.left.len() < before
    }

    pub fn value(&mut self, name: &str) -> Result<Option<&'a str>> {
        let Some(at) = self.left.iter().position(|word| *word == name) else { return Ok(None) };
        if at + 1 >= self.left.len() {
            bail!("`{name}` needs a value");
        }
        self.left.remove(at);
        Ok(Some(self.left.remove(at)))
    }

    pub fn finish(self) -> Result<()> {
        match self.left.first() {
            Some(word) => bail!("unknown argument `{word}`; `cargo xtask help` lists them"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_values_are_taken_and_the_rest_is_a_fault() {
        let mut arguments = Arguments::new(&["--only", "e2e", "--json", "--", "h1", "--x"]);
        assert_eq!(arguments.value("--only").unwrap(), Some("e2e"));
        assert!(arguments.flag("--json"));
        assert_eq!(arguments.rest, ["h1", "--x"]);
        arguments.finish().unwrap();
        assert!(Arguments::new(&["--onyl"]).finish().is_err());
        assert!(Arguments::new(&["--only"]).value("--only").is_err());
    }
}
