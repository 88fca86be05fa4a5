//! Ten thousand services: an edit to one costs the others nothing.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use super::support::{Bench, Outcome, eventually, within};

const SERVICES: usize = 10_000;

fn text(edited: &str) -> String {
    let mut text = String::new();
    for index in 0..SERVICES {
        let response = if index == 5_000 { edited } else { "30s" };
        // Nobody listens there, and nobody asks: the probes' interval is long.
        let _ = write!(
            text,
            "[service.s{index}]\nmatch = \"s{index}.test\"\nnodes = [\"127.0.0.1:1\", \"127.0.0.1:2\", \"127.0.0.1:3\"]\n\
             health = {{ interval = \"1h\", fall = 100 }}\ntimeouts = {{ response = \"{response}\" }}\n"
        );
    }
    text
}

#[test]
fn an_edit_to_one_of_ten_thousand_services_shares_all_the_others() -> Outcome {
    within(async {
        let began = Instant::now();
        let bench = Bench::start(&text("30s"))?;
        eventually("they are there", || bench.view("s5000")).await?;
        println!("start: {:?}", began.elapsed());
        // Let the first probes pass by.
        bench.status().await?;
        let before = bench.pool.snapshot();
        let began = Instant::now();
        bench.edit(&text("7s")).await?;
        let live = began.elapsed();
        let began = Instant::now();
        let read = crate::config::load(&bench.path("sluice.toml"));
        assert!(read.problems.is_empty());
        println!("reading the file alone: {:?}", began.elapsed());
        println!("one edit in one file of {SERVICES} services, read and live: {live:?}");
        let after = bench.pool.snapshot();
        assert!(Arc::ptr_eq(&before.router, &after.router));
        assert!(Arc::ptr_eq(&before.edge, &after.edge));
        let differ = before.services.iter().zip(&after.services).filter(|(old, new)| !Arc::ptr_eq(old, new));
        let differ: Vec<_> = differ.map(|(_, new)| new.settings.name.to_string()).collect();
        assert_eq!(differ, ["s5000"]);
        let began = Instant::now();
        assert_eq!(bench.status().await?.services.len(), SERVICES);
        println!("status of all: {:?}", began.elapsed());
        Ok(())
    })
}
