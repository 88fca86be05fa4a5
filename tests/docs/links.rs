//! Links between our own pages and files.

use std::path::{Component, Path, PathBuf};

use crate::page::{Page, pages};
use crate::root;

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_exist() {
    let pages = pages();
    let dead: Vec<String> = pages.iter().flat_map(|page| dead(page, &pages)).collect();
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn every_page_of_docs_is_found_from_its_index() {
    let pages = pages();
    let index = pages.iter().find(|page| page.path == Path::new("docs/README.md")).expect("docs/README.md");
    let linked: Vec<PathBuf> = index.links.iter().map(|(_, link)| beside(&index.path, link)).collect();
    let missing: Vec<_> = pages
        .iter()
        .filter(|page| page.path.starts_with("docs") && page.path != index.path && !linked.contains(&page.path))
        .map(|page| page.path.display().to_string())
        .collect();
    assert!(missing.is_empty(), "docs/README.md does not name {}", missing.join(", "));
}

fn dead(page: &Page, pages: &[Page]) -> Vec<String> {
    let mut dead = Vec::new();
    for (line, link) in &page.links {
        if ["http://", "https://", "mailto:"].iter().any(|scheme| link.starts_with(scheme)) {
            continue;
        }
        let anchor = link.split_once('#').map(|(_, anchor)| anchor);
        let target = beside(&page.path, link);
        let place = format!("{}:{line}: {link}", page.path.display());
        if target.starts_with("..") || !root().join(&target).exists() {
            dead.push(format!("{place}: no such file"));
        } else if let Some(anchor) = anchor
            && let Some(other) = pages.iter().find(|other| other.path == target)
            && !other.anchors.iter().any(|known| known == anchor)
        {
            dead.push(format!("{place}: no such heading"));
        }
    }
    dead
}

/// The file that a link on a page means.
fn beside(page: &Path, link: &str) -> PathBuf {
    let file = link.split('#').next().unwrap_or_default();
    if file.is_empty() {
        return page.to_owned();
    }
    let mut path = page.parent().unwrap_or(Path::new("")).to_owned();
    for part in Path::new(file).components() {
        match part {
            Component::ParentDir => {
                if !path.pop() {
                    path.push("..");
                }
            }
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}
