//! The kubeconfig file that kubectl reads.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::authority::KeyPairPem;

/// A kubeconfig with one cluster, one user and one context, all called `name`.
///
/// `server` is the API server's URL. Names are written as JSON strings, which every YAML reader accepts.
pub fn render_kubeconfig(name: &str, server: &str, authority_pem: &str, user: &KeyPairPem) -> String {
    let name = quote(name);
    let server = quote(server);
    let authority = STANDARD.encode(authority_pem);
    let certificate = STANDARD.encode(&user.certificate);
    let key = STANDARD.encode(&user.key);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: {name}\n\
         \x20 cluster:\n\
         \x20   server: {server}\n\
         \x20   certificate-authority-data: {authority}\n\
         users:\n\
         - name: {name}\n\
         \x20 user:\n\
         \x20   client-certificate-data: {certificate}\n\
         \x20   client-key-data: {key}\n\
         contexts:\n\
         - name: {name}\n\
         \x20 context:\n\
         \x20   cluster: {name}\n\
         \x20   user: {name}\n\
         current-context: {name}\n\
         preferences: {{}}\n"
    )
}

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.extend(c.escape_unicode().filter(|c| !matches!(c, '{' | '}'))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
