//! A page of Markdown, as far as it matters here: headings, links, and blocks of code.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::root;

/// One page.
pub struct Page {
    /// Below the repository's folder.
    pub path: PathBuf,
    /// What a link behind `#` may say.
    pub anchors: Vec<String>,
    /// Line and target of each link.
    pub links: Vec<(usize, String)>,
    /// The blocks of code.
    pub blocks: Vec<Block>,
    /// What stands outside of them, with its lines.
    text: Vec<(usize, String)>,
}

impl Page {
    /// The lines of running text.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.iter().map(|(number, line)| (*number, line.as_str()))
    }

    /// What stands between backticks in running text, with its line.
    pub fn spans(&self) -> impl Iterator<Item = (usize, String)> + '_ {
        let spans = |line: &str| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        self.text.iter().flat_map(move |(number, line)| spans(line).into_iter().map(|span| (*number, span)))
    }
}

/// One block of code.
pub struct Block {
    /// The line that it begins on.
    pub line: usize,
    /// The words behind the opening fence: language, then marks.
    pub info: Vec<String>,
    /// What stands in it.
    pub text: String,
}

impl Block {
    /// Its language; empty if it has none.
    pub fn language(&self) -> &str {
        self.info.first().map_or("", String::as_str)
    }

    /// Whether it carries this mark.
    pub fn is_marked(&self, mark: &str) -> bool {
        self.info.iter().skip(1).any(|word| word == mark)
    }
}

/// Every page that readers find: those of the root, and those of `docs/`.
pub fn pages() -> Vec<Page> {
    let mut pages: Vec<Page> = [".", "docs"]
        .iter()
        .flat_map(|folder| fs::read_dir(root().join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| read(&path))
        .collect();
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(pages.iter().any(|page| page.path == Path::new("README.md")), "no README.md");
    pages
}

fn read(path: &Path) -> Page {
    let text = fs::read_to_string(path).unwrap();
    let canonical = path.canonicalize().unwrap();
    parse(canonical.strip_prefix(root().canonicalize().unwrap()).unwrap(), &text)
}

fn parse(path: &Path, text: &str) -> Page {
    let mut page =
        Page { path: path.to_owned(), anchors: Vec::new(), links: Vec::new(), blocks: Vec::new(), text: Vec::new() };
    let mut seen = BTreeMap::new();
    let mut open: Option<(usize, Block)> = None;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let bare = line.trim_start();
        let indent = line.len() - bare.len();
        if let Some((indent, mut block)) = open.take() {
            if bare.trim_end() == "```" {
                page.blocks.push(block);
            } else {
                block.text.push_str(line.get(indent.min(line.len() - bare.len())..).unwrap_or(bare));
                block.text.push('\n');
                open = Some((indent, block));
            }
        } else if let Some(info) = bare.strip_prefix("```") {
            let info = info.split_whitespace().map(str::to_owned).collect();
            open = Some((indent, Block { line: number, info, text: String::new() }));
        } else {
            if line.starts_with('#') {
                let slug = slug(line.trim_start_matches('#').trim());
                let times = seen.entry(slug.clone()).or_insert(0);
                page.anchors.push(if *times == 0 { slug } else { format!("{slug}-{times}") });
                *times += 1;
            }
            page.text.push((number, line.to_owned()));
            page.links.extend(links(line).into_iter().map(|link| (number, link)));
        }
    }
    assert!(open.is_none(), "{}: a block of code is not closed", path.display());
    page
}

/// The targets in a line of text: `[text](target)`, `[name]: target`, `src="target"`, `href="target"`.
fn links(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    // What stands between backticks is no link.
    let text: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
    for (opening, closing) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"')] {
        for (at, _) in text.match_indices(opening) {
            let rest = &text[at + opening.len()..];
            let target = rest.split(closing).next().unwrap_or_default();
            found.push(target.split_whitespace().next().unwrap_or_default().to_owned());
        }
    }
    if let Some((_, target)) = text.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
        found.push(target.trim().to_owned());
    }
    found
}

/// What GitHub makes of a heading.
fn slug(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c if c.is_alphanumeric() => Some(c),
            _ => None,
        })
        .collect()
}

#[test]
fn a_page_is_read_as_it_is_shown() {
    let text = "# One & two\n[a](b.md#c) `[no](link)`\n\n```sh not-run\n# no heading\n```\n## One & two\n- item\n  ```\n  x\n  ```\n";
    let page = parse(Path::new("x.md"), text);
    assert_eq!(page.anchors, ["one--two", "one--two-1"]);
    assert_eq!(page.links, [(2, "b.md#c".to_owned())]);
    assert_eq!(page.blocks[0].language(), "sh");
    assert!(page.blocks[0].is_marked("not-run"));
    assert_eq!((page.blocks[0].line, page.blocks[0].text.as_str()), (4, "# no heading\n"));
    assert_eq!(page.blocks[1].text, "x\n");
}
