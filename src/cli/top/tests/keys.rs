//! What keys do.

use super::super::deeds::Deed;
use super::*;
use crate::api::{HaltKind, HaltStatus, Steering};
use crate::model::ServiceName;

fn many(count: usize) -> Status {
    let services = (0..count).map(|number| plain(&format!("service-{number:05}"), "settled")).collect();
    status(services)
}

fn selected(app: &App) -> &str {
    app.selected.as_ref().map_or("", |name| name.as_str())
}

#[test]
fn the_cursor_stays_with_its_service_wherever_that_goes() {
    let mut app = looked(morning());
    assert_eq!(selected(&app), "pay", "the worst is first");
    app.press(Key::Move(3));
    assert_eq!(selected(&app), "mail");
    app.press(Key::Char('s'));
    assert_eq!((selected(&app), app.cursor), ("mail", 2), "by name");
    app.press(Key::Char('s'));
    assert_eq!(selected(&app), "mail");
    let mut without = morning();
    without.services.retain(|service| service.name.as_str() != "mail");
    app.answered(without, None);
    assert_ne!(selected(&app), "mail", "it is gone; the cursor goes on in its place");
    assert!(!selected(&app).is_empty());
    app.answered(status(Vec::new()), None);
    assert_eq!((selected(&app), app.cursor), ("", 0));
    assert!(screen(&mut app, 80, 24).contains("no services"));
    assert_eq!(app.press(Key::Enter), Act::Draw);
    assert_eq!(press(&mut app, "py"), Act::Draw, "nothing to steer");
}

#[test]
fn ten_thousand_services_are_walked_through() {
    let mut app = looked(many(10_000));
    assert!(screen(&mut app, 80, 24).contains("SERVICES (10,000)"));
    app.press(Key::End);
    let last = screen(&mut app, 80, 24);
    assert!(last.contains("> ") && last.contains("service-09999") && !last.contains("service-00000"), "{last}");
    app.press(Key::Page(-1));
    app.press(Key::Home);
    assert_eq!(selected(&app), "service-00000");
    app.press(Key::Page(1));
    assert_eq!(selected(&app), "service-00020", "a screen, and one row of the last is still seen");
    press(&mut app, "/4242");
    let found = screen(&mut app, 80, 24);
    assert!(found.contains("(1 of 10,000)") && found.contains("service-04242"), "{found}");
    assert_eq!(selected(&app), "service-04242");
    app.press(Key::Backspace);
    assert_eq!(app.shown.len(), 20, "…424… in five digits");
    app.press(Key::Escape);
    assert_eq!(app.shown.len(), 10_000);
    assert_eq!(selected(&app), "service-04242", "whoever was found stays found");
}

#[test]
fn a_filter_keeps_letters_that_are_commands_elsewhere() {
    let mut app = looked(morning());
    assert_eq!(press(&mut app, "/qapy"), Act::Draw);
    assert_eq!(app.filter, "qapy");
    assert!(screen(&mut app, 80, 24).contains("nothing fits the filter"));
    app.press(Key::Enter);
    assert_eq!(app.press(Key::Escape), Act::Draw, "out of the filter first");
    assert_eq!(app.filter, "");
    assert_eq!(app.press(Key::Escape), Act::Quit);
}

#[test]
fn pasted_text_is_a_filter_or_nothing() {
    let mut app = looked(morning());
    app.paste("ay");
    assert_eq!(app.mode, super::super::app::Mode::Usual, "no question, and no answer to one");
    press(&mut app, "/");
    app.paste("sho\x1bp\n");
    assert_eq!(app.filter, "shop");
    app.paste(&"x".repeat(10_000));
    assert!(app.filter.chars().count() <= 60);
}

#[test]
fn nothing_is_steered_without_a_yes() {
    let mut app = looked(morning());
    press(&mut app, "/shop");
    app.press(Key::Enter);
    for (key, deed, question) in [
        ('p', Steering::Promote, "promote shop: v2 from 25% to 50%?  y / n"),
        ('P', Steering::PromoteFull, "promote shop: v2 to 100% without further holds?  y / n"),
        ('z', Steering::Pause, "pause shop: v2 stays at 25%?  y / n"),
        ('r', Steering::Resume, "resume shop: the rollout of v2 goes on?  y / n"),
        ('a', Steering::Abort, "abort shop: v1 serves again and v2 is refused?  y / n"),
        ('t', Steering::Retry, "retry shop: v2 is tried again?  y / n"),
    ]
    .map(|(key, steering, question)| (key, Deed::Steer(steering), question))
    .into_iter()
    .chain([
        ('h', Deed::Hold, "hold shop: new requests wait, for 30s at most?  y / n"),
        ('m', Deed::Close, "maintenance shop: new requests are answered 503?  y / n"),
    ]) {
        for no in [Key::Char('n'), Key::Escape, Key::Enter, Key::Char('a'), Key::Move(1)] {
            assert_eq!(app.press(Key::Char(key)), Act::Draw);
            assert!(screen(&mut app, 80, 24).ends_with(question), "{}", screen(&mut app, 80, 24));
            assert_eq!(app.press(no), Act::Draw, "{no:?}");
        }
        app.press(Key::Char(key));
        // The end of the question is seen however narrow it is.
        assert!(screen(&mut app, 30, 10).ends_with("y / n"));
        let Act::Do(asked) = app.press(Key::Char('y')) else { panic!("{key}") };
        assert_eq!((asked.service.as_str(), asked.deed), ("shop", deed));
        assert_eq!(asked.tag, app.service(&"shop".into()).unwrap().tag);
    }
    // The same on its page.
    app.press(Key::Enter);
    assert_eq!(app.open().map(ServiceName::as_str), Some("shop"));
    assert!(matches!(press(&mut app, "ay"), Act::Do(_)));
}

#[test]
fn pages_lead_back_to_where_one_came_from() {
    let mut app = looked(morning());
    app.press(Key::Move(3));
    let name = app.selected.clone().unwrap();
    assert_eq!(app.press(Key::Enter), Act::Ask, "its history is not there yet");
    assert_eq!(app.open(), Some(&name));
    press(&mut app, "?");
    assert!(screen(&mut app, 80, 24).contains("Keys"));
    assert_eq!(app.open(), Some(&name), "it is still asked for behind the help");
    press(&mut app, "c");
    press(&mut app, "?");
    app.press(Key::Escape);
    assert_eq!(app.open(), Some(&name));
    app.press(Key::Escape);
    assert_eq!(app.open(), None);
    assert_eq!(app.selected.as_ref(), Some(&name));
    app.press(Key::Enter);
    assert_eq!(press(&mut app, "q"), Act::Quit, "from everywhere");
    assert_eq!(app.press(Key::Interrupt), Act::Quit);
}

#[test]
fn one_service_asked_for_alone_takes_its_place_among_the_others() {
    let mut app = looked(morning());
    let shop = "shop".into();
    let mut alone = canary();
    alone.phase = "draining".into();
    let mut report = status(vec![alone]);
    report.generation = 99;
    app.answered(report, Some(&shop));
    assert_eq!(app.service(&shop).unwrap().phase, "draining");
    let all = app.status.as_ref().unwrap();
    assert_eq!((all.services.len(), all.generation), (6, 99));
    app.answered(status(Vec::new()), Some(&shop));
    assert!(app.service(&shop).is_none());
    assert_eq!(app.status.as_ref().unwrap().services.len(), 5);
}

#[test]
fn what_is_said_of_a_deed_stays_until_the_next_key() {
    let mut app = looked(morning());
    app.done(Err("shop: no version is on trial".into()));
    assert!(screen(&mut app, 80, 24).ends_with(" shop: no version is on trial"));
    app.answered(morning(), None);
    assert!(screen(&mut app, 80, 24).contains("no version is on trial"));
    app.press(Key::Move(1));
    assert!(!screen(&mut app, 80, 24).contains("no version is on trial"));
}

#[test]
fn the_key_that_stops_the_traffic_lets_it_go_again() {
    for (key, kind, deed, question, hint) in [
        ('h', HaltKind::Hold, Deed::Release, "release shop: 3 requests that wait go on?  y / n", "h release"),
        ('m', HaltKind::Maintenance, Deed::Open, "end maintenance shop: requests are answered again?  y / n", "m end"),
    ] {
        let mut halted = morning();
        let shop = halted.services.iter_mut().find(|service| service.name.as_str() == "shop").unwrap();
        shop.waiting = 3;
        shop.halt = Some(HaltStatus {
            kind,
            since: halted.now,
            until: None,
            message: None,
            retry_after: None,
            by: "uid 1000 (ada)".into(),
        });
        let mut app = looked(halted);
        press(&mut app, "/shop");
        app.press(Key::Enter);
        app.press(Key::Enter);
        assert!(screen(&mut app, 40, 10).lines().last().is_some_and(|foot| foot.contains(hint)));
        app.press(Key::Char(key));
        assert!(screen(&mut app, 80, 24).contains(question), "{}", screen(&mut app, 80, 24));
        let Act::Do(asked) = app.press(Key::Char('y')) else { panic!("{key}") };
        assert_eq!(asked.deed, deed);
    }
}
