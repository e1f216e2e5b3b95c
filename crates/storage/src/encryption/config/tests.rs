use super::*;

fn parse(rules: &str) -> Result<Rules, ConfigError> {
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n";
    Rules::parse(&format!("{head}{rules}"), None)
}

fn refused(rules: &str, expected: &str) {
    let error = parse(rules).err().unwrap_or_else(|| panic!("{rules} is taken")).to_string();
    assert!(error.contains(expected), "{error}\ndoes not say\n{expected}");
}

/// A rule of one line each.
fn rule(resources: &str, providers: &str) -> String {
    format!("- resources: [{resources}]\n  providers: [{providers}]\n")
}

const KEY: &str = "{aesgcm: {keys: [{name: k, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}]}}";

#[test]
fn the_most_exact_rule_counts() {
    let rules = [
        rule("secrets", KEY),
        rule("configmaps, '*.apps'", "{identity: {}}"),
        rule("'*.*'", &format!("{KEY}, {{identity: {{}}}}")),
    ];
    let rules = parse(&rules.concat()).expect("valid");
    let check = |name: &str, expected: usize| {
        let found = rules.of(&GroupResource::parse(name)).map(|providers| providers.0.len());
        assert_eq!(found, Some(expected), "{name}");
    };
    check("secrets", 1);
    check("configmaps", 1);
    check("deployments.apps", 1);
    check("pods", 2);
    check("boats.example.com", 2);
    assert!(rules.of(&GroupResource::parse("")).is_none(), "is no resource");
    let rules = parse(&[rule("'*.'", KEY), rule("secrets.example.com", KEY)].concat()).expect("valid");
    assert!(rules.of(&GroupResource::parse("pods")).is_some());
    assert!(rules.of(&GroupResource::parse("deployments.apps")).is_none());
}

#[test]
fn faults_are_told_in_upstreams_words() {
    let kms = |fields: &str| format!("{{kms: {{apiVersion: v2, {fields}}}}}");
    refused("", "resources: Required value: at least one resources is required");
    refused(&rule("", KEY), "resources[0].resources: Required value");
    refused(&rule("secrets", ""), "resources[0].providers: Required value");
    refused(&rule("secrets, secrets", KEY), "the same resource cannot be specified multiple times");
    refused(&rule("secrets, '*.'", KEY), "using overlapping resources");
    refused(&rule("secrets, '*.*'", KEY), "using overlapping resources");
    refused(&rule("Secrets", KEY), "should not contain capital letters");
    refused(&rule("'*'", KEY), "use '*.' to encrypt all the resources");
    refused(&rule("events.events.k8s.io", KEY), "stored using the 'events' API group");
    refused(&rule("a.extensions", KEY), "'extensions' group has been removed");
    refused(&rule("secrets.*", KEY), "across groups is not supported");
    refused(&rule("apiserveripinfo", KEY), "do not have REST API/s");
    refused(
        &[rule("'*.*'", KEY), rule("secrets", KEY)].concat(),
        "resource \"secrets\" is masked by earlier rule \"*.*\"",
    );
    refused(&[rule("'*.'", KEY), rule("secrets", KEY)].concat(), "is masked by earlier rule \"*.\"");
    refused(&rule("secrets", "{}"), "does not contain any of the expected providers");
    refused(&rule("secrets", "{identity: {}, aesgcm: {keys: []}}"), "more than one provider");
    refused(
        &rule("secrets", "{aesgcm: {keys: []}}"),
        "aesgcm.keys: Required value: at least one keys is required",
    );
    refused(&rule("secrets", "{aesgcm: {keys: [{secret: x}]}}"), "keys[0].name: Required value");
    refused(&rule("secrets", "{aesgcm: {keys: [{name: x}]}}"), "keys[0].secret: Required value");
    refused(&rule("secrets", "{aesgcm: {keys: [{name: x, secret: '!'}]}}"), "secrets must be base64 encoded");
    refused(
        &rule("secrets", "{aesgcm: {keys: [{name: x, secret: AAAA}]}}"),
        "\"REDACTED\": secret is not of the expected length, got 3, expected one of [16 24 32]",
    );
    refused(&rule("secrets", "{aescbc: {keys: []}}"), "aescbc: Forbidden");
    refused(&rule("secrets", "{kms: {name: a, endpoint: 'unix:///a'}}"), "Use KMSv2 instead");
    refused(&rule("secrets", &kms("endpoint: 'unix:///a'")), "kms.name: Required value");
    refused(&rule("secrets", &kms("name: 'a:b', endpoint: 'unix:///a'")), "must not contain ':'");
    refused(&rule("secrets", &kms("name: a, endpoint: 'http://a'")), "unsupported scheme \"http\"");
    refused(&rule("secrets", &kms("name: a")), "endpoint is a mandatory field");
    refused(&rule("secrets", &kms("name: a, endpoint: 'unix:///a', cachesize: 1")), "not supported in v2");
    refused(
        &rule("secrets", &kms("name: a, endpoint: 'unix:///a', timeout: 0s")),
        "should be a positive value",
    );
    let twice = kms("name: a, endpoint: 'unix:///a'");
    refused(&rule("secrets", &format!("{twice}, {twice}")), "duplicate KMS provider name a");
    refused(&rule("secrets", "{aesgmc: {}}"), "aesgmc");
    assert!(matches!(Rules::parse("kind: Pod\napiVersion: v1", None), Err(ConfigError::Type { .. })));
}

#[test]
fn durations_are_gos() {
    let check = |text: &str, expected: Option<u64>| {
        assert_eq!(parse_duration(text).map(|duration| duration.as_millis() as u64), expected, "{text}");
    };
    check("3s", Some(3000));
    check("1m30s", Some(90_000));
    check("1.5h", Some(5_400_000));
    check("250ms", Some(250));
    for text in ["", "3", "s", "-1s", "1x", "1e9s"] {
        check(text, None);
    }
}
