use super::*;

fn check(rule: fn(&str) -> Vec<String>, valid: &[&str], invalid: &[&str]) {
    for text in valid {
        assert_eq!(rule(text), Vec::<String>::new(), "{text:?}");
    }
    for text in invalid {
        assert!(!rule(text).is_empty(), "{text:?}");
    }
}

#[test]
fn grammars() {
    let long = "a".repeat(64);
    let longer = "a".repeat(254);
    check(dns1123_label, &["a", "a-1", "0"], &["", "A", "-a", "a-", "a.b", "ä", &long]);
    check(dns1123_subdomain, &["a", "a.b-c.d"], &["", ".", "a..b", "a.", "A.b", &longer]);
    check(dns1035_label, &["a", "a1"], &["1a", "", "a.b", "-"]);
    check(wildcard_subdomain, &["*.a.b"], &["*", "*.", "a.b", "*.*.a"]);
    check(qualified_name, &["a", "A_b.c", "x.y/z"], &["", "/a", "a/", "a/b/c", "A.b/c/", "_a", "X/y", &long]);
    check(label_value, &["", "a", "A_1"], &["-", "a b", &long]);
    check(port_name, &["http", "a-1"], &["", "1", "a--b", "-a", "HTTP", "0123456789abcdefg"]);
    check(env_var_name, &["A", "a.b-c", "1A", "A B"], &["", "A=B", "Ä", "\n"]);
    check(c_identifier, &["_a1"], &["", "1", "a-b"]);
    check(config_key, &["a", ".dockerconfigjson", "A_b-c"], &["", ".", "..", "..a", "a/b", &longer]);
    check(percent, &["0%", "25%"], &["", "%", "25", "-1%"]);
    check(path_segment, &["a:b"], &[".", "..", "a/b", "a%b"]);
    check(ip_address, &["10.0.0.1", "::1"], &["", "10.0.0", "10.0.0.1/8"]);
    check(http_header_name, &["X-A"], &["", "a b", "a:"]);
}

#[test]
fn messages_are_those_of_kubernetes() {
    assert_eq!(
        dns1123_subdomain("A"),
        [
            r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        ]
    );
    assert_eq!(
        label_value("a b"),
        [
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
        ]
    );
    assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
    assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
}

#[test]
fn generated_names_are_labels() {
    let mut next = 0;
    let mut random = || {
        next += 7;
        next
    };
    for base in ["web-", &"a".repeat(300), "ä".repeat(60).as_str(), ""] {
        let name = generate(base, &mut random);
        assert!(name.len() <= 63, "{name}");
        assert!(name.len() >= 5);
    }
    assert_eq!(generate("a-", || 0), "a-bbbbb");
    assert_eq!(generate("a-", || u32::MAX).len(), 7);
}
