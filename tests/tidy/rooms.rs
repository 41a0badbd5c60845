//! Which room of `optim` imports from which.

use std::collections::BTreeMap;

use super::source::Source;

/// The rooms, each of which may import from those before it. Rooms on one line do not see each other.
const ORDER: [&[&str]; 14] = [
    &["check"],
    &["algebra"],
    &["curvature"],
    &["curvature/reduce"],
    &["curvature/block"],
    &["curvature/estimate"],
    &["curvature/exact"],
    &["curvature/spectrum"],
    &["optimizer"],
    &["frame"],
    &["first_order"],
    &["matrix", "layer", "hessian"],
    &["registry"],
    &["audit"],
];

const HOME: &str = "optim/src/";

/// The room of a module, by the longest name that fits, and its place in the order.
fn room(module: &[String]) -> Option<(&'static str, usize)> {
    let path = module.join("/");
    let fits = |room: &str| path == *room || path.starts_with(&format!("{room}/"));
    let all = ORDER.iter().enumerate().flat_map(|(at, rooms)| rooms.iter().map(move |r| (*r, at)));
    all.filter(|(room, _)| fits(room)).max_by_key(|(room, _)| room.len())
}

/// The module that a file is.
fn module(path: &str) -> Vec<String> {
    let inside = path.trim_start_matches(HOME).trim_end_matches(".rs").trim_end_matches("/mod");
    inside.split('/').filter(|part| *part != "lib").map(str::to_owned).collect()
}

/// All paths of a tree `a::{b, c::d}` that begins here.
fn tree(text: &str, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    let mut at = 0;
    loop {
        if text[at..].starts_with('{') {
            at += 1;
            while at < text.len() && !text[at..].starts_with('}') {
                let branch = text[at..].trim_start_matches([' ', '\n', ',']);
                at = text.len() - branch.len();
                if !branch.starts_with('}') {
                    at += tree(branch, &path, found).max(1);
                }
            }
            return at + 1;
        }
        let rest = &text[at..];
        let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        match &rest[..name] {
            "" => {}
            "super" => _ = path.pop(),
            name => path.push(name.to_owned()),
        }
        at += name;
        if !text[at..].starts_with("::") {
            found.push(path);
            return at;
        }
        at += 2;
    }
}

/// The modules that a file names, tests left out.
fn imports(file: &Source) -> Vec<Vec<String>> {
    let code = file.code();
    let code = code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let own = module(&file.path);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '(') {
            tree(&code[at + "crate::".len()..], &[], &mut found);
        }
    }
    for (at, _) in code.match_indices("super::") {
        if !code[..at].ends_with(':') && !own.is_empty() {
            tree(&code[at + "super::".len()..], &own[..own.len() - 1], &mut found);
        }
    }
    found
}

/// Imports against the order, and how many were seen.
pub(crate) fn against_the_order(files: &[Source]) -> (Vec<String>, usize) {
    // A name that the root hands on is in the room that it comes from.
    let mut handed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for root in files.iter().filter(|file| file.path == format!("{HOME}lib.rs")) {
        let code = root.code();
        for (at, _) in code.match_indices("pub use ") {
            let mut paths = Vec::new();
            tree(&code[at + "pub use ".len()..], &[], &mut paths);
            for path in paths {
                handed.insert(path.last().cloned().unwrap_or_default(), path);
            }
        }
    }
    let (mut complaints, mut seen) = (Vec::new(), 0);
    for file in files.iter().filter(|file| file.is_in(HOME, ".rs")) {
        let Some((here, place)) = room(&module(&file.path)) else { continue };
        for path in imports(file) {
            let from_the_root = if let [name] = &path[..] { handed.get(name) } else { None };
            let path = from_the_root.unwrap_or(&path);
            let Some((there, other)) = room(path) else { continue };
            if here != there {
                seen += 1;
                if other >= place {
                    complaints.push(format!("{}: {} is not below it", file.path, path.join("::")));
                }
            }
        }
    }
    (complaints, seen)
}
