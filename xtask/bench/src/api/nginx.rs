//! Debian's nginx beside the API: gets of a file while others are sent that are as long as pages of a list.
//!
//! What a get waits for under such a load is mostly the machine. nginx takes its answers ready-made from memory,
//! so that its latencies tell what this machine, at this time, lets a server have.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use sampan_client::kubeconfig::{Access, Credentials};
use sampan_testkit::Sandbox;
use sampan_testkit::daemon::Daemon;
use sampan_testkit::tls::Tls;

use super::reads::{GETS, while_listing};
use crate::client::{Paced, connect, get, inside, paced};

pub const NAME: &str = "nginx";
const PROGRAM: &str = "/usr/sbin/nginx";
const PORT: u16 = 8443;
/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Gets of files of some length while pages of another one are read; `None` where it is not installed.
pub fn measure(sandbox: &Sandbox, object: usize, page: usize) -> Result<Option<Paced>> {
    if !Path::new(PROGRAM).exists() {
        eprintln!("{PROGRAM} is missing: not compared with nginx (Debian's package nginx-light)");
        return Ok(None);
    }
    let tls = Tls::make(sandbox.directory(), NAME, "127.0.0.1")?;
    let files = sandbox.directory().join("nginx");
    std::fs::create_dir(&files)?;
    std::fs::write(files.join("object"), vec![b'x'; object])?;
    std::fs::write(files.join("page"), vec![b'x'; page])?;
    let configuration = files.join("nginx.conf");
    std::fs::write(&configuration, directives(&files, &tls))?;
    let nginx = Daemon::start(sandbox, NAME, |command| {
        command.arg(PROGRAM).arg("-c").arg(&configuration).arg("-p").arg(&files);
    })?;
    let access = Access {
        server: format!("https://127.0.0.1:{PORT}"),
        certificate_authority: Some(std::fs::read(&tls.authority)?),
        tls_server_name: None,
        credentials: Credentials::default(),
        namespace: "default".to_owned(),
    };
    let gets = inside(sandbox, move || drive(access))?;
    nginx.kill()?;
    Ok(Some(gets))
}

/// As its manual advises for many requests on few connections.
fn directives(files: &Path, tls: &Tls) -> String {
    let (files, certificate, key) = (files.display(), tls.certificate.display(), tls.key.display());
    format!(
        "daemon off; user root; worker_processes auto; pid {files}/pid; error_log stderr crit;
        events {{ worker_connections 1024; }}
        http {{
            access_log off; tcp_nodelay on; open_file_cache max=16; keepalive_requests 1000000000;
            client_body_temp_path {files}/1; proxy_temp_path {files}/2; fastcgi_temp_path {files}/3;
            uwsgi_temp_path {files}/4; scgi_temp_path {files}/5;
            server {{
                listen 127.0.0.1:{PORT} ssl http2; root {files};
                ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;
            }}
        }}"
    )
}

async fn drive(access: Access) -> Result<Paced> {
    let reader = connect(&access)?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = get(&reader, "/object").await {
        anyhow::ensure!(Instant::now() < deadline, "nginx does not answer: {error:#}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pages = |client: std::sync::Arc<_>, _| async move { Ok(get(&client, "/page").await?.len()) };
    let (gets, _) = while_listing(&access, pages, async {
        paced(GETS, |_| async { get(&reader, "/object").await.map(drop) }).await
    })
    .await?;
    Ok(gets)
}
