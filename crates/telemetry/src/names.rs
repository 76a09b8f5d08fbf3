//! Names behind the small numbers in a record: route patterns, rule positions, upstreams, apps.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

/// Past this many names the next ones are all `Names::OTHER`: names come from configuration and from learnt
/// routes, which have a cap of their own, so only a fault could reach it.
pub const NAMES_MAX: usize = 65_536;

/// Append-only: a number stays valid for the life of the process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Names(Arc<RwLock<Table>>);

#[derive(Debug)]
struct Table {
    by_name: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
    max: usize,
}

impl Default for Names {
    fn default() -> Self {
        Names::at_most(NAMES_MAX)
    }
}

impl Names {
    pub const NONE: u32 = 0;
    pub const OTHER: u32 = 1;

    /// For names that others choose.
    pub fn at_most(max: usize) -> Names {
        let none: Arc<str> = "".into();
        let other: Arc<str> = "other".into();
        let by_name = HashMap::from([(none.clone(), 0), (other.clone(), 1)]);
        Names(Arc::new(RwLock::new(Table { by_name, names: vec![none, other], max })))
    }

    pub fn intern(&self, name: &str) -> u32 {
        if let Some(id) = self.find(name) {
            return id;
        }
        let mut table = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(&id) = table.by_name.get(name) {
            return id;
        }
        if table.names.len() >= table.max {
            return Self::OTHER;
        }
        let id = table.names.len() as u32;
        let name: Arc<str> = name.into();
        table.names.push(name.clone());
        table.by_name.insert(name, id);
        id
    }

    pub fn find(&self, name: &str) -> Option<u32> {
        let table = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        table.by_name.get(name).copied()
    }

    pub fn get(&self, id: u32) -> Arc<str> {
        let table = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        table.names.get(id as usize).unwrap_or(&table.names[1]).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_and_the_table_is_bounded() {
        let names = Names::default();
        let a = names.intern("/users/:id");
        assert_eq!(names.intern("/users/:id"), a);
        assert_eq!(&*names.get(a), "/users/:id");
        for i in 0..NAMES_MAX {
            names.intern(&i.to_string());
        }
        assert_eq!(names.intern("one too many"), Names::OTHER);
        assert_eq!(&*names.get(u32::MAX), "other");
    }
}
