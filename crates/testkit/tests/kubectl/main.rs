//! Stock kubectl, with no special flags: every command, by what it prints.

mod access;
mod admission;
mod cluster;
mod custom;
mod debug;
mod declared;
mod fairness;
mod generators;
mod objects;
mod pods;
mod policies;
mod resize;
mod server_side_apply;
mod sets;
mod streams;
mod top;
mod workloads;

use std::process::ExitCode;

use sampan_testkit::Suite;

fn main() -> ExitCode {
    Suite::new("kubectl")
        .test_image()
        .check("version", cluster::version)
        .check("cluster-info", cluster::cluster_info)
        .check("api-resources", cluster::api_resources)
        .check("api-versions", cluster::api_versions)
        .check("explain", cluster::explain)
        .check("explain --output=plaintext-openapiv2", declared::explain_by_version_2)
        .check("cluster-info dump", cluster::dump)
        .check("convert's absence, plugins", cluster::absent)
        .check("auth reconcile", access::reconcile)
        .check("auth can-i --list, set subject", access::can_i_list)
        .check("certificate approve, deny", access::certificate)
        .check("auth whoami", cluster::auth_whoami)
        .check("auth can-i", cluster::auth_can_i)
        .check("create token", cluster::create_token)
        .check("get nodes", cluster::get_nodes)
        .check("get componentstatuses", cluster::component_statuses)
        .check("create", objects::create)
        .check("create service, set selector", generators::services)
        .check("create secret docker-registry, clusterrolebinding", generators::secrets_and_bindings)
        .check("create job --from", generators::jobs)
        .check("autoscale, set serviceaccount, patch --subresource", generators::deployments)
        .check("create --validate", declared::validate)
        .check("kustomize, apply -k", declared::kustomize)
        .check("apply --prune --applyset", declared::apply_set)
        .check("wait --for=create, jsonpath, delete", declared::wait)
        .check("get --watch-only", declared::watch_only)
        .check("events", declared::events)
        .check("create from a manifest", objects::create_from_manifest)
        .check("get as yaml, json, jsonpath, names, columns", objects::get_formats)
        .check("get by selectors", objects::get_selectors)
        .check("get in chunks", objects::get_chunks)
        .check("get --watch", objects::get_watch)
        .check("describe", objects::describe)
        .check("apply", objects::apply)
        .check("apply of several documents", objects::apply_several)
        .check("apply --prune", objects::apply_prune)
        .check("apply refuses what is unknown or mistyped", objects::apply_refuses)
        .check("diff", objects::diff)
        .check("apply --server-side: conflicts", server_side_apply::conflicts)
        .check("apply --server-side: what is left out", server_side_apply::removes)
        .check("apply --server-side: status", server_side_apply::status)
        .check("diff --server-side", server_side_apply::diff)
        .check("get --show-managed-fields", server_side_apply::tracked)
        .check("apply, then apply --server-side", server_side_apply::migrates)
        .check("edit", objects::edit)
        .check("label", objects::label)
        .check("annotate", objects::annotate)
        .check("patch", objects::patch)
        .check("replace", objects::replace)
        .check("delete by name, selector, file and all", objects::delete)
        .check("dry run", objects::dry_run)
        .check("resource quota", admission::quota)
        .check("limit range", admission::limit_range)
        .check("pod security", admission::pod_security)
        .check("priority", admission::priority)
        .check("a validating policy denies, warns, and has parameters", policies::validating)
        .check("a policy that cannot be is refused", policies::refused)
        .check("mutating policies apply, patch, see each other, and fail", policies::mutating)
        .check("an overloaded priority level", fairness::overload)
        .check("types of a policy", policies::types)
        .check("rules of a custom resource", policies::rules)
        .check("run and delete a pod", pods::run)
        .check("get pods, wide", pods::get_wide)
        .check("describe pod", pods::describe)
        .check("wait", pods::wait)
        .check("logs", pods::logs)
        .check("logs of a previous container", pods::logs_previous)
        .check("logs of chosen containers and pods", pods::logs_selected)
        .check("run --rm -it", pods::run_interactive)
        .check("debug a container", debug::target)
        .check("debug: what is added lives on", debug::lives_on)
        .check("debug by profiles", debug::profiles)
        .check("debug a copy", debug::copy)
        .check("debug a node", debug::node)
        .check("resize in place and by a new start", resize::in_place)
        .check("resize that has no room", resize::pending)
        .check("resize that may not be", resize::refused)
        .check("top pod, top node", top::top)
        .check("what a kubelet measures, through nodes/proxy", top::scraped)
        .check("exec", streams::exec)
        .check("exec -it", streams::exec_terminal)
        .check("attach", streams::attach)
        .check("attach, and again", streams::attach_again)
        .check("cp", streams::cp)
        .check("port-forward", streams::port_forward)
        .check("create deployment, scale, expose", workloads::deployment)
        .check("autoscale's error", workloads::autoscale)
        .check("rollout status, history, undo", workloads::rollout_undo)
        .check("rollout restart, pause, resume", workloads::rollout_restart)
        .check("set image, env, resources", workloads::set)
        .check("delete --cascade", workloads::delete_cascade)
        .check("job", workloads::job)
        .check("stateful set: rollout, undo, scale", sets::stateful_set)
        .check("daemon set: rollout, undo, nodes", sets::daemon_set)
        .check("cron job", sets::cron_job)
        .check("cordon, taint, drain", workloads::drain)
        .check("custom resources", custom::define_use_delete)
        .check("explain a custom resource", custom::explain)
        .check("refuse bad custom resources and definitions", custom::refuse)
        .check("finalizers of custom resources", custom::finalizers)
        .check("status and scale of custom resources", custom::status_and_scale)
        .check("custom resources after a restart", custom::restart)
        .run()
}
