//! What is stored: encrypted, backed up, restored, checked.

use std::process::{Command, ExitCode};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nix::sys::signal::Signal;
use sampan_testkit::{Cluster, Suite};

fn main() -> ExitCode {
    Suite::new("storage")
        .test_image()
        .check("no secret is on disk or in a backup, also after a rotation", secrets)
        .check("keys are rotated while others write", rotation)
        .check("an encryption configuration is followed", configuration)
        .check("a backup that a running server made restores it", restore)
        .check("a store is checked, measured and compacted", care)
        .run()
}

/// A text that nobody else writes.
fn marked(length: usize) -> String {
    use std::hash::{BuildHasher, RandomState};
    let mut text = String::new();
    while text.len() < length {
        text.push_str(&format!("{:016x}", RandomState::new().hash_one(text.len())));
    }
    text.truncate(length);
    text
}

/// A text, and its base64 wherever it may begin in what was encoded.
fn forms(secret: &str) -> Vec<String> {
    let aligned = (0..3).map(|before| {
        let encoded = BASE64.encode([&vec![b' '; before], secret.as_bytes()].concat());
        // What depends on its neighbours is left out.
        let from = (before * 8).div_ceil(6);
        let to = ((before + secret.len()) * 8) / 6;
        encoded[from..to].to_owned()
    });
    std::iter::once(secret.to_owned()).chain(aligned).collect()
}

/// Files below `place` that hold one of the secrets in any form.
fn found(cluster: &Cluster, secrets: &[String], place: &str) -> String {
    let patterns = cluster.scratch().join("patterns");
    let forms: Vec<String> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    std::fs::write(&patterns, forms.join("\n")).expect("writes");
    let mut grep = Command::new("grep");
    grep.args([
        "--recursive",
        "--text",
        "--files-with-matches",
        "--fixed-strings",
        "--devices=skip",
        "--file",
    ]);
    let output = grep.arg(&patterns).arg(place).output().expect("grep runs");
    // 1 is for nothing found; a file that went away meanwhile held nothing.
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let serious: Vec<&str> = errors.lines().filter(|line| !line.contains("No such file")).collect();
    assert!(serious.is_empty(), "{serious:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn secrets(cluster: &mut Cluster) {
    let namespace = cluster.namespace("secrets");
    let text: Vec<String> = (0..7).map(|_| marked(40)).collect();
    let [opaque, key, password, basic, ssh, mounted, projected] = &text[..] else { panic!("seven") };
    let (token, signed) = (marked(16), marked(40));
    let docker =
        format!(r#"{{"auths": {{"r.example.com": {{"username": "u", "password": "{password}"}}}}}}"#);
    let secret = |name: &str, kind: &str, data: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: {kind}\nstringData:\n{data}---\n"
        )
    };
    let manifest = [
        secret("opaque", "Opaque", &format!("  word: {opaque}\n")),
        secret("mounted", "Opaque", &format!("  word: {mounted}\n")),
        secret("projected", "Opaque", &format!("  word: {projected}\n")),
        secret("tls", "kubernetes.io/tls", &format!("  tls.crt: none\n  tls.key: {key}\n")),
        secret("docker", "kubernetes.io/dockerconfigjson", &format!("  .dockerconfigjson: '{docker}'\n")),
        secret("basic", "kubernetes.io/basic-auth", &format!("  username: u\n  password: {basic}\n")),
        secret("ssh", "kubernetes.io/ssh-auth", &format!("  ssh-privatekey: {ssh}\n")),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: token, annotations: {{kubernetes.io/service-account.name: default}}}}\n\
             type: kubernetes.io/service-account-token\nstringData: {{token: {signed}}}\n"
        ),
    ];
    // Not applied: that would put them into an annotation, where they are the user's own doing.
    namespace.kubectl_stdin(&["create", "-f", "-"], &manifest.concat()).ok();
    let bootstrap = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: bootstrap-token-abcdef, namespace: kube-system}}\n\
         type: bootstrap.kubernetes.io/token\nstringData: {{token-id: abcdef, token-secret: {token}}}\n"
    );
    cluster.kubectl_stdin(&["create", "-f", "-"], &bootstrap).ok();
    let mut all = text.clone();
    all.extend([token, signed]);
    namespace.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: user}
spec:
  imagePullSecrets: [{name: docker}]
  containers:
  - name: main
    image: example.com/test:1
    command: [sleep, '1000']
    env:
    - {name: WORD, valueFrom: {secretKeyRef: {name: opaque, key: word}}}
    envFrom: [{secretRef: {name: basic}}]
    volumeMounts:
    - {name: mounted, mountPath: /mounted}
    - {name: projected, mountPath: /projected}
  volumes:
  - {name: mounted, secret: {secretName: mounted}}
  - name: projected
    projected: {sources: [{secret: {name: projected}}, {secret: {name: ssh}}, {serviceAccountToken: {path: token}}]}
",
    );
    namespace.wait("pod/user", "condition=Ready");
    namespace
        .sh("user", "echo $WORD $password $(cat /mounted/word /projected/word)")
        .ok()
        .has(&[opaque, basic]);
    // Of an exec that goes on, and of the token that only this pod has.
    let own = namespace.sh("user", "cat /projected/token").ok().text();
    all.push(own);

    let data = cluster.data_dir();
    let data = data.to_str().expect("a path of text").to_owned();
    // The search finds what is there.
    std::fs::write(cluster.data_dir().join("planted"), format!("x{}", BASE64.encode(opaque)))
        .expect("writes");
    assert!(found(cluster, &all, &data).contains("planted"));
    std::fs::remove_file(cluster.data_dir().join("planted")).expect("removes");

    let backup = cluster.scratch().join("secrets.backup");
    let backup = backup.to_str().expect("a path of text").to_owned();
    let check = |when: &str| {
        cluster.sampan(&["storage", "backup", "--data-dir", &data, "-o", &backup]).ok();
        for place in [data.as_str(), backup.as_str()] {
            assert_eq!(found(cluster, &all, place), "", "{when}");
        }
        assert!(!all.iter().any(|secret| cluster.log().contains(secret)), "{when}: in the log");
    };
    check("at first");
    cluster.sampan(&["storage", "rotate-key", "--data-dir", &data]).ok().has(&["encrypted"]);
    check("after a rotation");
    assert_eq!(namespace.get("secret/opaque", ".data.word"), BASE64.encode(opaque));
    drop(namespace);
    cluster.restart().expect("ends and starts");
    cluster.kubectl(&["get", "secrets", "--all-namespaces"]).ok();
}

fn rotation(cluster: &mut Cluster) {
    let namespace = cluster.namespace("rotation");
    let data = cluster.data_dir();
    let data = data.to_str().expect("a path of text");
    let key = || {
        let text = std::fs::read_to_string(cluster.data_dir().join("encryption-keys.json")).expect("reads");
        let keys: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let names = keys["keys"].as_array().expect("keys").clone();
        assert_eq!(names.len(), 1, "old keys are forgotten");
        names[0]["name"].as_str().expect("a name").to_owned()
    };
    let before = key();
    let names: Vec<String> = (0..20).map(|number| format!("s{number}")).collect();
    let secret = |name: &String| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{count: 'NUMBER'}}\n---\n"
        )
    };
    let manifest = cluster.scratch().join("rotated.yaml");
    std::fs::write(&manifest, names.iter().map(secret).collect::<String>()).expect("writes");
    namespace.kubectl(&["create", "-f", manifest.to_str().expect("a path of text")]).ok();
    // A writer that goes on while keys change. It replaces what it has read: where a key changed between the two, that
    // is a conflict, as with any other writer, and tried again.
    let script = format!(
        "for n in 1 2 3 4 5 6 7 8 9 10; do \
           until sed s/NUMBER/$n/ {manifest} | kubectl --namespace=rotation replace -f - >/dev/null 2>{manifest}.errors; \
           do if grep -v '(Conflict)' {manifest}.errors; then exit 1; fi; done; \
         done; echo wrote everything",
        manifest = manifest.display()
    );
    let mut writer = cluster.spawn(&["sh", "-c", &script]);
    for _ in 0..3 {
        cluster.sampan(&["storage", "rotate-key", "--data-dir", data]).ok();
    }
    writer.until("wrote everything");
    assert_ne!(key(), before);
    for name in &names {
        let name = format!("secret/{name}");
        assert_eq!(namespace.get(&name, ".data.count"), BASE64.encode("10"), "{name}");
    }
    let stats = cluster.sampan(&["storage", "stats", "--json", "--data-dir", data]).ok().json();
    let secrets =
        stats["resources"].as_array().expect("a list").iter().find(|one| one["resource"] == "secrets");
    let secrets = secrets.expect("there are secrets");
    assert_eq!(secrets["entries"], secrets["encrypted"]);
}

fn configuration(cluster: &mut Cluster) {
    let file = cluster.scratch().join("encryption.yaml");
    let write = |providers: &str, resources: &str| {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [{resources}]\n  providers: [{providers}]\n"
        );
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, text).expect("writes");
        std::fs::rename(&fresh, &file).expect("moves");
    };
    let key = |name: &str, byte: u8| {
        format!("{{aesgcm: {{keys: [{{name: {name}, secret: {}}}]}}}}", BASE64.encode([byte; 32]))
    };
    write(&format!("{}, {{identity: {{}}}}", key("one", 1)), "secrets, configmaps");
    let config = file.to_str().expect("a path of text").to_owned();
    let mut cluster = {
        // A cluster of its own: the configuration is a flag.
        let _ = cluster;
        Cluster::start_with(&["--encryption-provider-config", &config]).expect("starts")
    };
    let data = cluster.data_dir().to_str().expect("a path of text").to_owned();
    cluster.kubectl(&["create", "configmap", "kept", "--from-literal=a=b"]).ok();
    let encrypted = |cluster: &Cluster, resource: &str| {
        let stats = cluster.sampan(&["storage", "stats", "--json", "--data-dir", &data]).ok().json();
        let found =
            stats["resources"].as_array().expect("a list").iter().find(|one| one["resource"] == resource);
        let found = found.expect("is stored");
        (found["encrypted"].as_u64().expect("a number"), found["entries"].as_u64().expect("a number"))
    };
    let (count, all) = encrypted(&cluster, "configmaps");
    assert!(count > 0 && count == all, "{count} of {all}");
    // Another key is taken up without a restart, and everything is stored anew on demand.
    write(&format!("{}, {}, {{identity: {{}}}}", key("two", 2), key("one", 1)), "secrets, configmaps");
    let reloaded = || cluster.log().matches("the encryption configuration was read again").count();
    while reloaded() == 0 {
        std::thread::yield_now();
    }
    cluster.sampan(&["storage", "rotate-key", "--data-dir", &data]).ok();
    write(&format!("{}, {{identity: {{}}}}", key("two", 2)), "secrets, configmaps");
    while reloaded() == 1 {
        std::thread::yield_now();
    }
    cluster.restart().expect("nothing needs the first key");
    assert_eq!(cluster.kubectl(&["get", "configmap", "kept", "-o", "jsonpath={.data.a}"]).ok().text(), "b");
    // A file that says nonsense changes nothing.
    std::fs::write(&file, "resources: 7").expect("writes");
    while !cluster.log().contains("the one before stays") {
        std::thread::yield_now();
    }
    cluster.kubectl(&["create", "configmap", "after", "--from-literal=a=b"]).ok();
    cluster.stop().expect("leaves nothing");
}

fn restore(cluster: &mut Cluster) {
    let data = cluster.data_dir().to_str().expect("a path of text").to_owned();
    let backup = cluster.scratch().join("backup").to_str().expect("a path of text").to_owned();
    cluster.kubectl(&["create", "namespace", "restore"]).ok();
    cluster
        .kubectl(&["--namespace=restore", "create", "secret", "generic", "s", "--from-literal=a=before"])
        .ok();
    cluster
        .sampan(&["storage", "backup", "--data-dir", &data, "-o", &backup])
        .ok()
        .says(&["entries at revision"]);
    let piped =
        cluster.run(&["sh", "-c", &format!("$SAMPAN_BIN storage backup --data-dir {data} | head -c 8")]);
    piped.ok().has(&["SAMPANBK"]);
    let patch = r#"{"stringData":{"a":"after"}}"#;
    cluster.kubectl(&["--namespace=restore", "patch", "secret", "s", "--type=merge", "-p", patch]).ok();
    let restore = |arguments: &[&str]| {
        cluster.sampan(&[&["storage", "restore", "--data-dir", data.as_str()], arguments].concat())
    };
    // While the server runs, and over what is there, only if asked to.
    restore(&[&backup]).fails().says(&["--force"]);
    restore(&[&backup, "--force"]).fails().says(&["in use by another process"]);
    let whole = std::fs::read(&backup).expect("reads");
    let cut = format!("{backup}.cut");
    std::fs::write(&cut, &whole[..whole.len() - 10]).expect("writes");
    restore(&[&cut, "--force"]).fails().says(&["is cut off"]);
    let bent = format!("{backup}.bent");
    let mut content = whole.clone();
    content[whole.len() / 2] ^= 1;
    std::fs::write(&bent, content).expect("writes");
    restore(&[&bent, "--force"]).fails().says(&["is damaged"]);
    cluster.kill_server(Signal::SIGTERM).expect("it ran");
    let restore = |arguments: &[&str]| {
        cluster.sampan(&[&["storage", "restore", "--data-dir", data.as_str()], arguments].concat())
    };
    restore(&[&bent, "--force"]).fails().says(&["is damaged"]);
    restore(&[&backup, "--force"]).ok().says(&["the store that was there is now"]);
    // Elsewhere, its secrets need their key.
    let other = cluster.scratch().join("other").to_str().expect("a path of text").to_owned();
    cluster
        .sampan(&["storage", "restore", "--data-dir", &other, &backup])
        .fails()
        .says(&["encryption-keys.json"]);
    cluster.sampan(&["storage", "fsck", "--data-dir", &data]).ok().has(&["0 faults"]);
    cluster.start_server().expect("starts with what was restored");
    let read = ["--namespace=restore", "get", "secret", "s", "-o", "jsonpath={.data.a}"];
    assert_eq!(cluster.kubectl(&read).ok().text(), BASE64.encode("before"));
    cluster.kubectl(&["--namespace=restore", "create", "configmap", "next", "--from-literal=a=b"]).ok();
    // With its keys a backup is enough to begin anew.
    let full = format!("{backup}.full");
    cluster.sampan(&["storage", "backup", "--with-keys", "--data-dir", &data, "-o", &full]).ok();
    cluster.sampan(&["storage", "restore", "--data-dir", &other, &full]).ok();
    cluster
        .sampan(&["storage", "fsck", "--data-dir", &other])
        .ok()
        .has(&[" 0 of them encrypted by others, 0 faults"]);
    cluster.kubectl(&["delete", "namespace", "restore"]).ok();
}

fn care(cluster: &mut Cluster) {
    let data = cluster.data_dir().to_str().expect("a path of text").to_owned();
    let run = |cluster: &Cluster, what: &str| cluster.sampan(&["storage", what, "--data-dir", &data]);
    run(cluster, "stats").ok().matches(r"^namespaces +\d+ +[\d.]+ k?B no$").matches(r"^secrets .* yes$");
    run(cluster, "compact").ok().has(&["in the file"]);
    run(cluster, "fsck").fails().says(&["stop it first"]);
    cluster.kill_server(Signal::SIGTERM).expect("it ran");
    run(cluster, "fsck").ok().has(&["0 faults"]);
    run(cluster, "stats").ok().has(&["RESOURCE"]);
    run(cluster, "compact").ok();
    // A disk that forgot: named, with what to do.
    let store = cluster.data_dir().join("store/sampan.redb");
    let good = std::fs::read(&store).expect("reads");
    let mut bad = good.clone();
    let at = good.windows(9).position(|part| part == b"Namespace").expect("is stored");
    bad[at] ^= 1;
    std::fs::write(&store, bad).expect("writes");
    run(cluster, "fsck").fails().has(&["sampan.redb is corrupted", "sampan storage restore FILE --force"]);
    let refused = cluster.start_server().expect_err("nothing is served of it");
    let told = format!("{refused:#}\n{}", cluster.log());
    assert!(told.contains("sampan.redb is corrupted"), "{told}");
    std::fs::write(&store, good).expect("writes");
    cluster.start_server().expect("starts");
}
