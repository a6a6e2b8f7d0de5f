use proptest::prelude::*;

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[track_caller]
fn check(text: &str, canonical: &str) {
    assert_eq!(
        text.parse::<Reference>().map(|r| r.to_string()),
        Ok(canonical.to_owned())
    );
}

#[track_caller]
fn refuse(text: &str, message: &str) {
    assert_eq!(
        text.parse::<Reference>().map_err(|e| e.to_string()),
        Err(message.to_owned()),
        "{text}"
    );
}

#[test]
fn short_names_belong_to_docker_hub() {
    check("nginx", "docker.io/library/nginx:latest");
    check("nginx:1.27", "docker.io/library/nginx:1.27");
    check("bitnami/redis", "docker.io/bitnami/redis:latest");
    check("docker.io/nginx", "docker.io/library/nginx:latest");
    check("index.docker.io/nginx", "docker.io/library/nginx:latest");
}

#[test]
fn a_first_component_with_a_dot_a_port_or_localhost_is_a_registry() {
    check("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1");
    check("localhost/x", "localhost/x:latest");
    check("localhost:5000/x:y", "localhost:5000/x:y");
    check("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest");
    check("[::1]:5000/x", "[::1]:5000/x:latest");
    check("registry:5000/x", "registry:5000/x:latest");
    check("UPPER/x", "UPPER/x:latest");
}

#[test]
fn a_digest_takes_the_place_of_the_default_tag() {
    check(
        &format!("nginx@sha256:{HEX}"),
        &format!("docker.io/library/nginx@sha256:{HEX}"),
    );
    check(&format!("a.b/c:d@sha256:{HEX}"), &format!("a.b/c:d@sha256:{HEX}"));
    let both: Reference = format!("a.b/c:d@sha256:{HEX}").parse().unwrap();
    assert_eq!(both.manifest_key(), format!("sha256:{HEX}"));
}

#[test]
fn separators_follow_the_grammar() {
    check("a__b/c--d/e.f_g", "docker.io/a__b/c--d/e.f_g:latest");
    for text in [
        "a___b/c", "a..b", "-a/b", "a-/b", "a//b", "/a", "a/", "", ":", "@", "a:", "a b", "a/../b",
    ] {
        refuse(text, "invalid reference format");
    }
}

#[test]
fn refusals_say_what_a_kubernetes_user_knows() {
    refuse(
        "Nginx",
        "invalid reference format: repository name (library/Nginx) must be lowercase",
    );
    refuse(
        "a.b/C:d",
        "invalid reference format: repository name (C) must be lowercase",
    );
    refuse(
        HEX,
        &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
    );
    refuse(
        &"a".repeat(300),
        "repository name must not be more than 255 characters",
    );
    refuse("nginx@sha256:00", "invalid checksum digest length");
    refuse("a.b:70000/c", "invalid reference format");
    refuse("a_b.c/d", "invalid reference format");
    refuse("nginx:.x", "invalid reference format");
    refuse(&format!("nginx:{}", "t".repeat(129)), "invalid reference format");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic_or_accept_what_a_url_cannot_hold(text in "\\PC{0,80}|[a-zA-Z0-9:@./_\\[\\]-]{0,80}") {
        if let Ok(reference) = text.parse::<Reference>() {
            let safe = |b: u8| b.is_ascii_alphanumeric() || b".:/_-[]@".contains(&b);
            prop_assert!(reference.to_string().bytes().all(safe));
            prop_assert!(reference.repository().split('/').all(|c| !c.is_empty() && c != "." && c != ".."));
        }
    }

    #[test]
    fn the_canonical_form_reads_back_as_itself(
        registry in "(|[a-z]{1,8}\\.[a-z]{2,3}(:[1-9][0-9]{0,3})?/)",
        path in "[a-z0-9]{1,6}([_-][a-z0-9]{1,6}){0,2}(/[a-z0-9]{1,6}(\\.[a-z0-9]{1,3})?){0,2}",
        tag in "(|:[A-Za-z0-9_][A-Za-z0-9_.-]{0,12})",
        at in any::<bool>(),
    ) {
        let digest = if at { format!("@sha256:{HEX}") } else { String::new() };
        let text = format!("{registry}{path}{tag}{digest}");
        let reference: Reference = text.parse().unwrap();
        prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
    }
}
