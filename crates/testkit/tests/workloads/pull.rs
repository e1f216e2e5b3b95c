//! Where images come from.

use std::fmt::Write as _;
use std::path::Path;

use sampan_testkit::Cluster;

use crate::{pod, status};

fn puller(name: &str, image: &str, policy: &str, more: &str) -> String {
    pod(
        name,
        &format!(
            "{more}  containers: [{{name: main, image: '{image}', imagePullPolicy: {policy}, command: [sleep, '1000']}}]"
        ),
    )
}

pub fn errors(cluster: &mut Cluster) {
    let namespace = cluster.namespace("pull-errors");
    let absent = "127.0.0.1:1/nobody/listens:1";
    namespace.apply(
        &[
            puller("never", "example.com/absent:1", "Never", ""),
            puller("absent", absent, "IfNotPresent", ""),
            puller("wrong", "UPPER/Case:1", "IfNotPresent", ""),
        ]
        .concat(),
    );
    let reason = ".status.containerStatuses[0].state.waiting.reason";
    namespace.wait_for("pod/never", reason, "ErrImageNeverPull");
    let message = status(&namespace, "never", "state.waiting.message");
    assert_eq!(message, "Container image \"example.com/absent:1\" is not present with pull policy of Never");
    namespace.wait_for("pod/wrong", reason, "InvalidImageName");
    namespace.event(
        "wrong",
        "InspectFailed",
        "Failed to apply default image tag \"UPPER/Case:1\": couldn't parse image name",
    );
    namespace.event("absent", "Pulling", &format!("Pulling image \"{absent}\""));
    namespace.event("absent", "Failed", &format!("Failed to pull image \"{absent}\": .*refused"));
    namespace.event("absent", "Failed", "Error: ErrImagePull");
    namespace.wait_for("pod/absent", reason, "ImagePullBackOff");
    let message = status(&namespace, "absent", "state.waiting.message");
    assert!(message.starts_with(&format!("Back-off pulling image \"{absent}\"")), "{message}");
    namespace.event("absent", "BackOff", &format!("Back-off pulling image \"{absent}\""));
    namespace
        .kubectl(&["get", "pod", "absent"])
        .ok()
        .matches("^absent +0/1 +(ImagePullBackOff|ErrImagePull) +0 ");
}

/// bcrypt of `harbour`.
const HTPASSWD: &str = "captain:$2a$04$abcdefghijklmnopqrstuuDquYVKNGbM6sPqJTwNHdkN7dQ6zg7dG\n";
const REGISTRY: &str = "127.0.0.1:5000";

pub fn private_registry(cluster: &mut Cluster) {
    let directory = cluster.scratch().join("registry");
    std::fs::create_dir_all(&directory).expect("the scratch directory is writable");
    std::fs::write(directory.join("htpasswd"), HTPASSWD).expect("writable");
    let path = directory.display();
    let config = format!(
        "version: 0.1
log: {{level: info}}
storage: {{filesystem: {{rootdirectory: {path}/data}}}}
http: {{addr: '{REGISTRY}'}}
auth: {{htpasswd: {{realm: harbour, path: {path}/htpasswd}}}}
"
    );
    std::fs::write(directory.join("config.yml"), config).expect("writable");
    let mut registry = cluster.spawn(&["docker-registry", "serve", &format!("{path}/config.yml")]);
    registry.until("listening on 127.0.0.1:5000");
    push(cluster, &directory);

    let namespace = cluster.namespace("private");
    let image = format!("{REGISTRY}/team/private:1");
    namespace.apply(&puller("stranger", &image, "Always", ""));
    namespace.event(
        "stranger",
        "Failed",
        &format!("Failed to pull image \"{image}\": .*authentication required"),
    );
    let login = ["--docker-username=captain", "--docker-password=harbour"];
    let server = format!("--docker-server={REGISTRY}");
    namespace.kubectl(&["create", "secret", "docker-registry", "key", &server, login[0], login[1]]).ok();
    namespace.apply(&puller("friend", &image, "Always", "  imagePullSecrets: [{name: key}]\n"));
    namespace.wait("pod/friend", "condition=Ready");
    namespace.event(
        "friend",
        "Pulled",
        &format!("Successfully pulled image \"{image}\" in .* Image size: [0-9]+ bytes"),
    );
    let id = status(&namespace, "friend", "imageID");
    assert!(id.contains("team/private@sha256:"), "{id}");
    // The account's secrets do as well; and an image that is here is not given to who may not pull it.
    let patch = "{\"imagePullSecrets\":[{\"name\":\"key\"}]}";
    namespace.kubectl(&["patch", "serviceaccount", "default", "-p", patch]).ok();
    namespace.apply(&puller("heir", &image, "Always", ""));
    namespace.wait("pod/heir", "condition=Ready");
    namespace.apply(&puller("unknown", &format!("{REGISTRY}/team/other:1"), "Always", ""));
    namespace.event("unknown", "Failed", "Failed to pull image .*(not found|unknown)");
    registry.kill();
}

/// Pushes the root of the test image as one layer, with curl: blobs in one piece, then the manifest.
fn push(cluster: &Cluster, directory: &Path) {
    let path = directory.display();
    let mut script = String::from("set -e\n");
    let _ = write!(
        script,
        r#"cd {path}
tar -C ../image -cf layer.tar .
layer=$(sha256sum layer.tar | cut -d' ' -f1)
printf '{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:%s"]}}}}' $layer > config.json
config=$(sha256sum config.json | cut -d' ' -f1)
printf '{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%s}}]}}' \
  $config $(stat -c %s config.json) $layer $(stat -c %s layer.tar) > manifest.json
base=http://{REGISTRY}/v2/team/private
for file in layer.tar config.json; do
  digest=$(sha256sum $file | cut -d' ' -f1)
  location=$(curl -sSf -u captain:harbour -X POST -D - -o /dev/null $base/blobs/uploads/ | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
  curl -sSf -u captain:harbour -X PUT -H 'Content-Type: application/octet-stream' --data-binary @$file "$location&digest=sha256:$digest"
done
curl -sSf -u captain:harbour -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary @manifest.json $base/manifests/1
"#
    );
    cluster.run(&["sh", "-c", &script]).ok();
}
