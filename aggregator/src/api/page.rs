//! The plain page at `/`: the promise, alerts and cameras; the one of a camera at `/camera`; and the one at `/login`. Scripts and style are files of their own, so that
//! the content security policy needs no exception.

use axum::http::{HeaderName, header};
use axum::response::Html;

type File = ([(HeaderName, &'static str); 1], &'static str);

pub(super) async fn html() -> Html<&'static str> {
    Html(include_str!("page/page.html"))
}

pub(super) async fn script() -> File {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page/page.js"))
}

pub(super) async fn style() -> File {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("page/page.css"))
}

pub(super) async fn camera() -> Html<&'static str> {
    Html(include_str!("page/camera.html"))
}

pub(super) async fn camera_script() -> File {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page/camera.js"))
}

pub(super) async fn login() -> Html<&'static str> {
    Html(include_str!("page/login.html"))
}

pub(super) async fn login_script() -> File {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page/login.js"))
}
