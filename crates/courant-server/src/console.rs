//! The console at `/`: files out of the binary, and the page itself for every address of a screen.
//!
//! They hold no data, so anybody may have them; what they show comes from the API, which asks who asks.

use axum::Router;
use axum::http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use courant_console::{Asset, Built, COMMAND, PAGE, assets, built};

/// What the page may do: load its own files and ask its own server. Nothing that stands in a payload can
/// run, come from elsewhere or send anything there.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// For files whose name changes with what is in them.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// For the others: kept, and asked for again, which costs a 304.
const ASKED_AGAIN: &str = "no-cache";

/// Answers every address that nothing else does.
pub(crate) fn router() -> Router {
    Router::new().fallback(serve)
}

async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let files = Files { built: built(), assets: assets() };
    files.answer(&method, uri.path(), &headers)
}

/// What there is to serve.
#[derive(Debug)]
struct Files {
    built: Built,
    assets: &'static [Asset],
}

impl Files {
    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response {
        if method != Method::GET && method != Method::HEAD {
            return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")]).into_response();
        }
        let wanted = if path == "/" { PAGE } else { path };
        if let Some(asset) = self.find(wanted) {
            return file(asset, headers);
        }
        // A screen has an address of its own, and whoever opens it gets the page. Programs and missing
        // files do not.
        if !is_screen(path, headers) {
            return (StatusCode::NOT_FOUND, "there is nothing here\n").into_response();
        }
        match self.find(PAGE) {
            Some(page) => file(page, headers),
            None => without(self.built),
        }
    }

    fn find(&self, path: &str) -> Option<&'static Asset> {
        self.assets.iter().find(|asset| asset.path == path)
    }
}

fn is_screen(path: &str, headers: &HeaderMap) -> bool {
    let is_other = ["/api/", "/assets/", "/metrics/"].iter().any(|other| path.starts_with(other));
    let wants_page = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("text/html"));
    !is_other && (path == "/" || headers.get_all(ACCEPT).iter().any(wants_page))
}

fn file(asset: &'static Asset, headers: &HeaderMap) -> Response {
    let is_known = |value: &HeaderValue| {
        let value = value.to_str().unwrap_or_default();
        value.split(',').any(|tag| tag.trim().trim_start_matches("W/") == asset.etag)
    };
    let mut response = if headers.get_all(IF_NONE_MATCH).iter().any(is_known) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, asset.content_type)], asset.bytes).into_response()
    };
    let kept = if asset.is_immutable { FOR_EVER } else { ASKED_AGAIN };
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_static(asset.etag));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
    secure(headers);
    response
}

fn secure(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// The page of a server that has no console.
fn without(built: Built) -> Response {
    let sentence = match built {
        Built::LeftOut => "It was built with <code>COURANT_CONSOLE=none</code>.".to_owned(),
        _ => format!(
            "Build it, and the server with it, by this command (it needs Node.js 20.19 or newer):</p>\
             <pre>{COMMAND}</pre><p>Then start the server again."
        ),
    };
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Courant</title>\
         <h1>This server runs, and has no console</h1><p>{sentence}</p>\
         <p>Everything else is there: <a href=\"/api/v1/health\">/api/v1/health</a>, \
         <a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a>, \
         <a href=\"/metrics\">/metrics</a>.</p></html>\n"
    );
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    let mut response = (StatusCode::NOT_FOUND, [(CONTENT_TYPE, kind)], page).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    secure(headers);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    fn files() -> Files {
        Files { built: built(), assets: assets() }
    }

    fn nothing() -> Files {
        Files { built: Built::Missing, assets: &[] }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("a header's value"));
        }
        headers
    }

    async fn text(response: Response) -> String {
        let body = to_bytes(response.into_body(), 10_000_000).await.expect("a body in memory");
        String::from_utf8_lossy(&body).into_owned()
    }

    const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

    #[tokio::test]
    async fn without_a_console_the_page_says_the_one_command() {
        let response = nothing().answer(&Method::GET, "/", &headers(&[BROWSER]));
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert!(text(response).await.contains("<pre>cargo xtask build</pre>"));
        let left_out = Files { built: Built::LeftOut, assets: &[] };
        let response = left_out.answer(&Method::GET, "/topics", &headers(&[BROWSER]));
        assert!(text(response).await.contains("COURANT_CONSOLE=none"));
    }

    #[test]
    fn only_who_wants_a_page_gets_one() {
        let asked = [("/favicon.ico", "image/*"), ("/topics", "*/*"), ("/topics", "application/json")];
        for (path, accepted) in asked {
            let response = nothing().answer(&Method::GET, path, &headers(&[("accept", accepted)]));
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
            assert_eq!(response.headers()[CONTENT_TYPE], "text/plain; charset=utf-8", "{path}");
        }
        for path in ["/api/v2/topics", "/assets/gone.js"] {
            let response = files().answer(&Method::GET, path, &headers(&[BROWSER]));
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        }
        let response = files().answer(&Method::POST, "/", &headers(&[BROWSER]));
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
    }

    #[test]
    fn every_address_of_a_screen_is_the_page_and_scripts_are_kept_for_ever() {
        if built() != Built::Whole {
            let name = "every_address_of_a_screen_is_the_page_and_scripts_are_kept_for_ever";
            println!("SKIPPED: {name}: {COMMAND} was not run");
            return;
        }
        for path in ["/", "/topics/orders.v1/live", "/e/orders/0/17", "/index.html"] {
            let response = files().answer(&Method::GET, path, &headers(&[BROWSER]));
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8", "{path}");
            assert_eq!(response.headers()[CACHE_CONTROL], ASKED_AGAIN, "{path}");
            assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], POLICY, "{path}");
        }
        let script = assets().iter().find(|asset| asset.path.ends_with(".js") && asset.is_immutable);
        let script = script.expect("the console has a script");
        let response = files().answer(&Method::GET, script.path, &headers(&[]));
        assert_eq!(response.headers()[CACHE_CONTROL], FOR_EVER);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/javascript; charset=utf-8");
        assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
    }

    #[test]
    fn what_is_known_is_not_sent_again() {
        let Some(asset) = assets().first() else {
            println!("SKIPPED: what_is_known_is_not_sent_again: {COMMAND} was not run");
            return;
        };
        let known = format!("\"other\", W/{}", asset.etag);
        let known = headers(&[("if-none-match", known.as_str())]);
        let response = files().answer(&Method::GET, asset.path, &known);
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(response.headers()[ETAG], asset.etag);
        let other = headers(&[("if-none-match", "\"other\"")]);
        let response = files().answer(&Method::GET, asset.path, &other);
        assert_eq!(response.status(), StatusCode::OK);
    }

    #[test]
    fn the_policy_lets_no_script_of_a_payload_run() {
        assert!(!POLICY.contains("unsafe") && !POLICY.contains('*') && !POLICY.contains("data:"));
        assert!(POLICY.starts_with("default-src 'none'") && POLICY.contains("connect-src 'self'"));
    }
}
