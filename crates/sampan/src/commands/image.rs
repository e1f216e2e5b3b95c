//! `sampan image`: asks the running server over its admin socket.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use futures_util::TryStreamExt as _;
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::admin::{ImageSummary, PackRequest, PullLine, PullRequest, socket_path};
use crate::commands::admin_socket::{answer, empty, encode, full, request_on, send};
use crate::config::DEFAULT_DATA_DIR;
#[derive(Args, Debug)]
pub struct ImageArgs {
    /// Data directory of the running server
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR, global = true)]
    data_dir: PathBuf,
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Subcommand, Debug)]
enum ImageCommand {
    /// Import an OCI or docker archive (plain, gzip or zstd); `-` reads standard input
    Import {
        file: PathBuf,
        /// Name of an image that the archive does not name
        #[arg(long)]
        name: Option<String>,
    },
    /// Pull an image from a registry
    Pull {
        name: String,
        /// User of the registry; the password is read from SAMPAN_REGISTRY_PASSWORD
        #[arg(long)]
        username: Option<String>,
        #[arg(long, env = "SAMPAN_REGISTRY_PASSWORD", hide = true, hide_env_values = true)]
        password: Option<String>,
    },
    /// Make an image of a directory
    Pack {
        directory: PathBuf,
        tag: String,
        /// Word of the entrypoint; may be repeated
        #[arg(long, allow_hyphen_values = true)]
        entrypoint: Vec<String>,
        /// Word of the default command; may be repeated
        #[arg(long, allow_hyphen_values = true)]
        cmd: Vec<String>,
        /// NAME=VALUE; may be repeated
        #[arg(long)]
        env: Vec<String>,
        /// User and group, by name or number
        #[arg(long, default_value = "")]
        user: String,
        #[arg(long, default_value = "")]
        workdir: String,
    },
    /// List images
    Ls,
    /// Remove an image by name, digest or id
    Rm { name: String },
    /// Remove every image that no container uses
    Prune,
}

impl ImageArgs {
    pub async fn run(self) -> Result<()> {
        let socket = socket_path(&self.data_dir);
        match self.command {
            ImageCommand::Import { file, name } => import(&socket, &file, name.as_deref()).await,
            ImageCommand::Pull { name, username, password } => {
                let password = username.as_ref().and(password);
                pull(&socket, PullRequest { name, username, password }).await
            }
            ImageCommand::Pack { directory, tag, entrypoint, cmd, env, user, workdir } => {
                let directory = std::fs::canonicalize(&directory)
                    .with_context(|| format!("cannot read the directory {}", directory.display()))?;
                let request =
                    PackRequest { directory, tag, entrypoint, cmd, env, user, working_dir: workdir };
                let body = full(serde_json::to_vec(&request)?);
                let image: ImageSummary =
                    serde_json::from_value(send(&socket, Method::POST, "/images/pack", body).await?)?;
                println!("{}  {}", image.names.join(" "), image.id);
                Ok(())
            }
            ImageCommand::Ls => list(&socket).await,
            ImageCommand::Rm { name } => {
                let path = format!("/images?name={}", encode(&name));
                print_removed(&send(&socket, Method::DELETE, &path, empty()).await?);
                Ok(())
            }
            ImageCommand::Prune => {
                print_removed(&send(&socket, Method::POST, "/images/prune", empty()).await?);
                Ok(())
            }
        }
    }
}

fn print_removed(answer: &Value) {
    let texts = |field: &str| {
        answer[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned)
    };
    texts("names").for_each(|name| println!("untagged {name}"));
    texts("images").for_each(|image| println!("deleted {image}"));
}

async fn import(socket: &Path, file: &Path, name: Option<&str>) -> Result<()> {
    let reader: Box<dyn AsyncRead + Send + Sync + Unpin> = if file == Path::new("-") {
        Box::new(tokio::io::stdin())
    } else {
        Box::new(
            tokio::fs::File::open(file).await.with_context(|| format!("cannot open {}", file.display()))?,
        )
    };
    let frames = ReaderStream::with_capacity(reader, 256 << 10).map_ok(Frame::data);
    let path =
        name.map_or("/images/import".to_owned(), |name| format!("/images/import?name={}", encode(name)));
    let answer = send(socket, Method::POST, &path, BodyExt::boxed(StreamBody::new(frames))).await?;
    for name in answer["names"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("{name}");
    }
    Ok(())
}

/// Shows one line per blob that is done; with a terminal also how far the others are.
async fn pull(socket: &Path, request: PullRequest) -> Result<()> {
    let (connection, response) =
        request_on(socket, Method::POST, "/images/pull", full(serde_json::to_vec(&request)?)).await?;
    if !response.status().is_success() {
        answer(response).await?;
        return Ok(());
    }
    let frames = response.into_data_stream().map_err(std::io::Error::other);
    let mut lines = StreamReader::new(frames).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            PullLine::Progress { layer, done, total } => {
                let short = layer.trim_start_matches("sha256:").get(..12).unwrap_or(&layer).to_owned();
                let (done, total) = (done as f64 / 1e6, total as f64 / 1e6);
                if done >= total {
                    println!("{short} {total:.1} MB");
                } else if std::io::stdout().is_terminal() {
                    print!("{short} {done:.1} of {total:.1} MB\r");
                }
            }
            PullLine::Pulled(image) => {
                println!("{}  {}", image.names.join(" "), image.id);
                connection.abort();
                return Ok(());
            }
            PullLine::Failed(message) => bail!("{message}"),
        }
    }
    bail!("the server ended the pull without a word; see its log")
}

async fn list(socket: &Path) -> Result<()> {
    let images: Vec<ImageSummary> =
        serde_json::from_value(send(socket, Method::GET, "/images", empty()).await?)?;
    println!("{:<52} {:<14} SIZE", "NAME", "ID");
    for image in images {
        let id = image.id.trim_start_matches("sha256:");
        let size = format!("{:.1} MB", image.size as f64 / 1e6);
        let names = if image.names.is_empty() { vec!["<none>".to_owned()] } else { image.names };
        for name in names {
            println!("{name:<52} {:<14} {size}", id.get(..12).unwrap_or(id));
        }
    }
    Ok(())
}
