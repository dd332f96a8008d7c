//! The imports between the files of a crate, and which of them don't fit its floors.
//!
//! `lib.rs` lists the modules of a crate from the top floor down. A file may import from its own top-level module and from those
//! below it; the crate's root is the roof, so that nobody imports what `lib.rs` exports. Files that import each other in a
//! circle must be of one folder. Test modules don't count. Paths inside macro calls do, as far as they begin with `crate`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use syn::{
    Attribute, File, Item, ItemMod, ItemUse, Macro, UseTree,
    visit::{self, Visit},
};

/// A module's path from the crate's root.
type Module = Vec<String>;

/// The modules of a crate by the files that hold them, and the imports between these.
#[derive(Default)]
pub(crate) struct House {
    /// The top-level modules, in the order of `lib.rs`.
    floors: Vec<String>,
    /// The file of each module; those of inline modules are their parents'.
    files: BTreeMap<Module, Module>,
    /// Modules that have files below them.
    folders: BTreeSet<Module>,
    /// By file: what it imports.
    imports: BTreeMap<Module, BTreeSet<Module>>,
}

impl House {
    /// Reads the crate whose `lib.rs` is in this folder.
    pub(crate) fn read(src: &Path) -> Self {
        let mut house = Self::default();
        let mut parsed = Vec::new();
        house.find(&src.join("lib.rs"), src, Vec::new(), &mut parsed);
        for (module, file) in &parsed {
            let mut reader = Reader { house: &house, module: module.clone(), found: Vec::new() };
            reader.visit_file(file);
            let imports: BTreeSet<_> = reader.found.into_iter().filter(|to| to != module).collect();
            house.imports.insert(module.clone(), imports);
        }
        house
    }

    fn find(
        &mut self,
        path: &Path,
        folder: &Path,
        module: Module,
        parsed: &mut Vec<(Module, File)>,
    ) {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        self.files.insert(module.clone(), module.clone());
        self.find_in(&file.items, folder, &module, &module, parsed);
        parsed.push((module, file));
    }

    fn find_in(
        &mut self,
        items: &[Item],
        folder: &Path,
        module: &Module,
        file: &Module,
        parsed: &mut Vec<(Module, File)>,
    ) {
        for item in items {
            let Item::Mod(item) = item else { continue };
            if is_for_tests(&item.attrs) {
                continue;
            }
            let name = item.ident.to_string();
            let inner: Module = module.iter().cloned().chain([name.clone()]).collect();
            if module.is_empty() {
                self.floors.push(name.clone());
            }
            if let Some((_, items)) = &item.content {
                self.files.insert(inner.clone(), file.clone());
                self.find_in(items, &folder.join(&name), &inner, file, parsed);
                continue;
            }
            self.folders.insert(module.clone());
            let (beside, within) =
                (folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs"));
            let path = if beside.exists() { beside } else { within };
            self.find(&path, &folder.join(&name), inner, parsed);
        }
    }

    /// The file of what a path from the crate's root names.
    fn file_of(&self, path: &[String]) -> Option<&Module> {
        (0..=path.len()).rev().find_map(|length| self.files.get(&path[..length]))
    }

    fn floor(&self, module: &Module) -> Option<usize> {
        let name = module.first()?;
        self.floors.iter().position(|floor| floor == name)
    }

    /// The folder of a file. A file that has a folder of its own belongs to that.
    fn folder<'a>(&self, file: &'a Module) -> &'a [String] {
        match self.folders.contains(file) {
            true => file,
            false => &file[..file.len().saturating_sub(1)],
        }
    }

    /// Imports from a floor above, or from the roof, one line each.
    pub(crate) fn upward(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (from, imports) in &self.imports {
            let Some(floor) = self.floor(from) else { continue };
            for to in imports {
                if self.floor(to).is_none_or(|other| other < floor) {
                    found.push(format!("{} imports from {}", name(from), name(to)));
                }
            }
        }
        found
    }

    /// Files of different folders that import each other, directly or by way of others: a line for each circle.
    pub(crate) fn circles(&self) -> Vec<String> {
        let reached: BTreeMap<&Module, BTreeSet<&Module>> =
            self.imports.keys().map(|file| (file, self.reached_from(file))).collect();
        let mut done = BTreeSet::new();
        let mut found = Vec::new();
        for (file, reaches) in &reached {
            if done.contains(file) || !reaches.contains(file) {
                continue;
            }
            let circle: BTreeSet<&Module> =
                reaches.iter().filter(|other| reached[*other].contains(file)).copied().collect();
            done.extend(circle.iter().copied());
            let folders: BTreeSet<_> = circle.iter().map(|file| self.folder(file)).collect();
            if folders.len() > 1 {
                let names: Vec<_> = circle.iter().map(|file| name(file)).collect();
                found.push(format!("{} files in a circle: {}", names.len(), names.join(", ")));
            }
        }
        found
    }

    fn reached_from(&self, file: &Module) -> BTreeSet<&Module> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&Module> = self.imports[file].iter().collect();
        while let Some(next) = open.pop() {
            // The roof imports everything, and `upward` finds who imports it.
            if !next.is_empty() && reached.insert(next) {
                open.extend(&self.imports[next]);
            }
        }
        reached
    }

    /// How many files it has.
    pub(crate) fn files(&self) -> usize {
        self.imports.len()
    }
}

fn name(module: &Module) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("::") }
}

/// `#[cfg(test)]` and its like.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .meta
                .require_list()
                .is_ok_and(|list| ["test", "doctest"].contains(&list.tokens.to_string().as_str()))
    })
}

struct Reader<'a> {
    house: &'a House,
    module: Module,
    found: Vec<Module>,
}

impl Reader<'_> {
    /// Notes a path as it stands in the source.
    fn note(&mut self, path: &[String]) {
        let Some(first) = path.first() else { return };
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.module.clone(),
            // A module of this one, or else another crate, a name in scope, …
            _ => {
                let inner: Module = self.module.iter().cloned().chain([first.clone()]).collect();
                if !self.house.files.contains_key(&inner) {
                    return;
                }
                self.module.clone()
            }
        };
        for part in path {
            match part.as_str() {
                "crate" | "self" => {}
                "super" => drop(at.pop()),
                part => at.push(part.to_owned()),
            }
        }
        if let Some(file) = self.house.file_of(&at) {
            self.found.push(file.clone());
        }
    }

    fn note_tree(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.note_tree(&path.tree, before);
                before.pop();
            }
            UseTree::Name(name) => self.note_with(before, name.ident.to_string()),
            UseTree::Rename(name) => self.note_with(before, name.ident.to_string()),
            UseTree::Glob(_) => self.note(&before.clone()),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.note_tree(tree, before));
            }
        }
    }

    fn note_with(&mut self, before: &[String], last: String) {
        let path: Vec<_> = before.iter().cloned().chain([last]).collect();
        self.note(&path);
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        // Modules with a file of their own are read from that.
        if let (Some((_, items)), false) = (&item.content, is_for_tests(&item.attrs)) {
            self.module.push(item.ident.to_string());
            items.iter().for_each(|item| self.visit_item(item));
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.note_tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let parts: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
            self.note(&parts);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        // Apart by spaces: `crate :: a :: b`.
        let tokens = call.tokens.to_string().replace(" :: ", "::");
        for word in tokens.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
            if word.starts_with("crate::") {
                let parts: Vec<_> = word.split("::").map(str::to_owned).collect();
                self.note(&parts);
            }
        }
    }
}
