//! Express of npm that answers by itself, with express-rate-limit and rate-limit-redis or without.

use crate::instance::{Ports, Running};
use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGE: &str = include_str!("express/package.json");
const SERVER: &str = include_str!("express/server.js");

/// `redis`: where it counts; without one it limits nothing.
pub fn start(dir: &Path, redis: Option<SocketAddr>) -> Result<Running> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new("node");
    command.arg("server.js").current_dir(installed()?).env("PORT", address.port().to_string());
    command.env("NODE_ENV", "production");
    if let Some(redis) = redis {
        command.env("LIMIT_REDIS", format!("redis://{redis}"));
    }
    let name = if redis.is_some() { "express-limited" } else { "express" };
    Running::start(&mut command, name, dir, Ports { plain: address, tls: address })
}

/// A folder of the build with its packages, installed once.
fn installed() -> Result<PathBuf> {
    let folder = workspace::target()?.join("bench-express");
    let is_there = fs::read_to_string(folder.join("package.json")).is_ok_and(|text| text == PACKAGE);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("server.js"), SERVER)?;
    if !is_there || !folder.join("node_modules/express").exists() {
        fs::write(folder.join("package.json"), PACKAGE)?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]).current_dir(&folder);
        ensure!(npm.status().context("npm")?.success(), "npm could not install express-rate-limit");
    }
    Ok(folder)
}
