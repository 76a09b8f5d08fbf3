//! Which schemas a request must keep. They add up: what an app, and every matching route, asks for.

use super::load::{Schemas, What};
use super::{Kind, Options};
use crate::options::{App, Route};
use crate::path::Pattern;
use mainstay_telemetry::Names;

#[derive(Debug)]
pub struct Rules {
    routes: Vec<(Pattern, Rule)>,
    /// One for each app of the snapshot, in its order.
    apps: Vec<Option<Rule>>,
    names: Names,
    is_empty: bool,
}

#[derive(Debug)]
pub struct Rule {
    /// `None`: the file was gone when this server started. Nothing is let through unchecked.
    pub what: Option<What>,
    /// For trails.
    text: String,
    at: String,
}

/// What a request was judged by: a rule, and of an OpenAPI document the place of the operation.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    pub rule: &'a Rule,
    pub operation: Option<&'a str>,
}

impl Rule {
    fn new(options: &Options, schemas: &Schemas) -> Rule {
        let word = if options.kind == Kind::Schema { "schema" } else { "openapi" };
        let text = format!("{word} {}", options.text);
        Rule { what: schemas.get(options).cloned(), text, at: options.at.clone() }
    }
}

impl Rules {
    pub fn new(apps: &[App], routes: &[Route], schemas: &Schemas, names: &Names) -> Rules {
        let of_route = |r: &Route| {
            let rules: Vec<_> = r.input.iter().map(|o| (r.pattern.clone(), Rule::new(o, schemas))).collect();
            rules
        };
        let routes: Vec<_> = routes.iter().flat_map(of_route).collect();
        let apps: Vec<_> = apps.iter().map(|a| a.openapi.as_ref().map(|o| Rule::new(o, schemas))).collect();
        let is_empty = routes.is_empty() && apps.iter().all(Option::is_none);
        Rules { routes, apps, names: names.clone(), is_empty }
    }

    /// Nothing is ever checked: nobody needs to look.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// `app`: its index.
    pub fn matching(&self, method: &str, host: &str, path: &str, app: Option<usize>) -> Vec<&Rule> {
        let routes = self.routes.iter().filter(|(pattern, _)| pattern.matches(method, host, path));
        let app = app.and_then(|i| self.apps.get(i)?.as_ref());
        app.into_iter().chain(routes.map(|(_, rule)| rule)).collect()
    }

    /// In `Names`, where it comes once it has refused something: operations are many, and most never do.
    pub fn name(&self, by: By<'_>) -> u32 {
        let Rule { text, at, .. } = by.rule;
        match by.operation {
            Some(operation) => self.names.intern(&format!("{text}: {operation} ({at})")),
            None => self.names.intern(&format!("{text} ({at})")),
        }
    }
}
