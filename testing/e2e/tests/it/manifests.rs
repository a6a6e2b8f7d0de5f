//! What the tests deploy.

/// A web server that answers with its version and its pod's name, and ends on SIGTERM.
pub(crate) fn web(name: &str, replicas: u32, version: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - name: web
        image: example.test/busybox:1
        command: [/bin/sh, -c, 'echo "$VERSION $(hostname)" >/www/index.html; trap "exit 0" TERM; httpd -f -p 8080 -h /www & wait']
        env: [{{name: VERSION, value: {version}}}]
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: NodePort
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: http, nodePort: 30080}}]
"#
    )
}

/// A pod that runs a shell script, with its name as its container's.
pub(crate) fn pod(name: &str, script: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: {name}
    image: example.test/busybox:1
    command: [/bin/sh, -c, '{script}']
"
    )
}

/// The script of a pod that waits for its end and then goes at once.
pub(crate) const IDLE: &str = r#"trap "exit 0" TERM; sleep 100000 & wait"#;
