//! What people are told when a store refuses them or is not there: one line with the place, what was found, and what to do.

use crate::proxy::{answers, refusal};
use crate::roles::{plays, role};
use evoq_test_support::servers::{Kind, Server, free_port};

/// What is said when the store refuses everything with `status` and `code`.
fn refused(status: &'static str, code: &str) -> String {
    let said = plays(&mut role("open", "s3://evoq/root", answers(status, &refusal(code, "Because. Of that."))));
    assert!(!said.contains('<') && !said.contains("Generic") && said.len() < 300, "{said}");
    said
}

#[test]
fn wrong_credentials_are_named_and_are_bad_input() {
    for (code, remedy) in [
        ("InvalidAccessKeyId", "check AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "check AWS_SECRET_ACCESS_KEY"),
        ("AccessDenied", "use credentials that may list, read, write and remove there"),
        ("ExpiredToken", "get new credentials and set AWS_SESSION_TOKEN with them"),
        ("RequestTimeTooSkewed", "set this machine's clock"),
    ] {
        let at = "s3://evoq/root/manifest.json: reading was refused with";
        let expected = format!("input error: {at} 403 {code} (Because. Of that); {remedy}");
        assert_eq!(refused("403 Forbidden", code), expected);
    }
}

#[test]
fn another_region_and_a_missing_bucket_are_named_and_are_bad_input() {
    let said = refused("301 Moved Permanently", "PermanentRedirect");
    assert!(said.starts_with("input error:") && said.ends_with("set AWS_REGION to the bucket's region"), "{said}");
    let said = refused("400 Bad Request", "AuthorizationHeaderMalformed");
    assert!(said.starts_with("input error:") && said.ends_with("set AWS_REGION to the bucket's region"), "{said}");
    let said = refused("404 Not Found", "NoSuchBucket");
    assert!(said.contains("there is no such bucket at http://127.0.0.1:"), "{said}");
}

#[test]
fn a_server_that_checks_signatures_refuses_a_wrong_secret() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(Kind::S3sFs, folder.path()) else { return };
    let with = |name: &str, value: &str| plays(role("put", "s3://evoq/a", server.port()).env(name, value));
    assert_eq!(with("AWS_REGION", "us-east-1"), "put");
    let said = with("AWS_SECRET_ACCESS_KEY", "wrong");
    assert!(said.starts_with("input error: s3://evoq/a: writing was refused with 403 SignatureDoesNotMatch"), "{said}");
    assert!(said.ends_with("check AWS_SECRET_ACCESS_KEY"), "{said}");
    let said = with("AWS_ACCESS_KEY_ID", "wrong");
    assert!(said.starts_with("input error: s3://evoq/a: writing was refused with"), "{said}");
}

#[test]
fn a_bucket_that_a_server_lacks_is_named() {
    for kind in [Kind::MiniStack, Kind::Moto] {
        let folder = tempfile::tempdir().unwrap();
        let Some(server) = Server::start(kind, folder.path()) else { continue };
        for name in ["open", "put", "create", "verify", "probe"] {
            let said = plays(&mut role(name, "s3://evok/root", server.port()));
            assert!(said.contains("there is no such bucket at http://127.0.0.1:"), "{kind:?} {name}: {said}");
            assert!(said.starts_with("input error: s3://evok/root"), "{kind:?} {name}: {said}");
        }
    }
}

#[test]
fn a_server_that_is_not_there_is_named_and_is_no_bad_input() {
    let port = free_port();
    let said = plays(&mut role("put", "s3://evoq/a", port));
    assert!(said.starts_with("storage error: s3://evoq/a: writing failed: "), "{said}");
    assert!(said.contains(&format!("http://127.0.0.1:{port} cannot be reached: Connection refused")), "{said}");
    assert!(said.contains("AWS_ENDPOINT_URL"), "{said}");
}

#[test]
fn a_server_that_does_not_speak_tls_is_named() {
    let port = answers("200 OK", "");
    let said = plays(role("put", "s3://evoq/a", port).env("AWS_ENDPOINT_URL", format!("https://127.0.0.1:{port}")));
    assert!(said.contains(&format!("https://127.0.0.1:{port} cannot be reached: ")), "{said}");
}

#[test]
fn missing_credentials_are_named_and_are_bad_input() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let mut command = role("put", "s3://evoq/a", 1);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("AWS_METADATA_ENDPOINT", nobody);
    let said = plays(&mut command);
    assert!(said.starts_with("input error: s3://evoq/a: writing needs credentials, and there are none"), "{said}");
    let said = plays(role("put", "s3://evoq/a", 1).env_remove("AWS_SECRET_ACCESS_KEY"));
    assert!(said.contains("AWS_SECRET_ACCESS_KEY is not set"), "{said}");
}

#[test]
fn an_endpoint_without_a_scheme_is_refused_by_its_variable() {
    let said = plays(role("put", "s3://evoq/a", 1).env("AWS_ENDPOINT_URL", "localhost:9000"));
    assert!(said.contains("AWS_ENDPOINT_URL is `localhost:9000`, which needs http:// or https://"), "{said}");
}
