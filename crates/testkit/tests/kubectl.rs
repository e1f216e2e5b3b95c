//! Stock kubectl, with no special flags: every command, by what it prints.

use std::process::ExitCode;

use sampan_testkit::Suite;

fn main() -> ExitCode {
    Suite::new("kubectl")
        .check("version and cluster-info", |cluster| {
            cluster.kubectl(&["version"]).ok().has(&["Server Version: v1."]);
            cluster.kubectl(&["cluster-info"]).ok().has(&["is running at", "https://127.0.0.1:6443"]);
        })
        .check("api-resources", |cluster| {
            cluster
                .kubectl(&["api-resources"])
                .ok()
                .matches(r"^deployments +deploy +apps/v1 +true +Deployment$")
                .matches(r"^nodes +no +v1 +false +Node$");
        })
        .run()
}
