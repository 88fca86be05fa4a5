//! The page, its headers, and what keeps other pages away from it.

use super::*;

#[test]
fn the_page_comes_with_all_that_keeps_it_apart() {
    let (_folder, fake) = start();
    for (path, kind) in
        [("/", "text/html"), ("/dashboard/dashboard.css", "text/css"), ("/dashboard/dashboard.js", "text/javascript")]
    {
        let (code, head, body) = ask(&fake, "GET", path);
        assert_eq!(code, 200, "{path}: {body}");
        for line in [
            &format!("content-type: {kind}; charset=utf-8"),
            "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
             img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-opener-policy: same-origin",
            "cache-control: no-store",
        ] {
            assert!(head.contains(line), "{path}: {line}\n{head}");
        }
    }
    assert!(fake.asked().is_empty(), "the control plane is not asked for a page");
}

#[test]
fn all_that_the_page_loads_is_there_and_comes_from_here() {
    let (_folder, fake) = start();
    let (_, _, page) = ask(&fake, "GET", "/");
    let mut wanted: Vec<String> = Vec::new();
    for mark in ["href=\"/", "src=\"/"] {
        wanted.extend(page.split(mark).skip(1).map(|rest| format!("/{}", rest.split('"').next().unwrap())));
    }
    assert!(wanted.len() >= 2, "{page}");
    let mut seen = 0;
    while let Some(path) = wanted.get(seen).cloned() {
        let (code, _, text) = ask(&fake, "GET", &path);
        assert_eq!(code, 200, "{path}");
        for rest in text.split(" from \"./").skip(1) {
            let next = format!("/dashboard/{}", rest.split('"').next().unwrap());
            if !wanted.contains(&next) {
                wanted.push(next);
            }
        }
        for no in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
            assert!(!text.contains(no), "{path} holds {no}: what the API tells is no markup");
        }
        // The one address is the name of SVG's elements, which nothing is loaded from.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("http://") && !text.contains("https://"), "{path} names another place");
        seen += 1;
    }
    let page = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<style"), "{page}");
}

#[test]
fn no_other_path_or_query_or_method_gives_a_page() {
    let (_folder, fake) = start();
    for (method, target, expected) in [
        ("GET", "/?service=shop", 400),
        ("GET", "/dashboard/", 404),
        ("GET", "/dashboard/mod.rs", 404),
        ("GET", "/dashboard/..%2fdashboard.rs", 404),
        ("GET", "/dashboard/dashboard.js?v=1", 400),
        ("GET", "/dashboard/dashboard.js/more", 404),
        ("POST", "/", 405),
        ("HEAD", "/", 200),
    ] {
        let (code, _, body) = ask(&fake, method, target);
        assert_eq!(code, expected, "{method} {target}: {body}");
    }
}

#[test]
fn who_asks_is_told_the_role() {
    let (_folder, fake) = start();
    let (code, _, body) = ask(&fake, "GET", "/v1/whoami");
    assert_eq!(code, 200);
    let whoami: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(whoami["role"], "operator", "the socket's file mode is its password: {body}");
    assert!(whoami["name"].as_str().unwrap().contains("uid"), "{body}");
}

#[test]
fn a_forwarded_socket_is_closed_to_pages_from_elsewhere() {
    let (_folder, fake) = start();
    for (headers, expected) in [
        ("Host: evil.example\r\n", 403),
        ("Host: evil:9000\r\n", 403),
        ("Host: localhost:9000\r\nOrigin: https://evil.example\r\n", 403),
        ("Host: localhost:9000\r\nOrigin: null\r\n", 403),
        ("Host: localhost:9000\r\nOrigin: http://localhost:9000\r\n", 200),
        ("Host: localhost:9000\r\nOrigin: http://localhost:3000\r\n", 403),
        ("Host: 127.0.0.1:9000\r\n", 200),
        ("Host: sluice\r\n", 200),
    ] {
        let request = format!("POST /v1/services/shop/promote HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        let (code, _, body) = send(connect(&fake), request.as_bytes());
        assert_eq!(code, expected, "{headers}: {body}");
    }
    let steered = fake.asked().iter().filter(|request| matches!(request, Request::Steer { .. })).count();
    assert_eq!(steered, 3, "what was refused changed nothing");
}
