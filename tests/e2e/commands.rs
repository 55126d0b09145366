//! The commands, their answers and their exit codes.

use crate::world::{Cluster, code, run_with, run_with_input, stderr, stdout};

#[tokio::test]
async fn the_answers_of_add_read_and_delete_are_those_promised() {
    let cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    let added = cluster.run(&["add", "k", "v", "--output", "json"]);
    assert_eq!(code(&added), 0, "{added:?}");
    let answer = json(&added);
    assert_eq!(answer["key"], "k");
    assert_eq!(answer["version"], 1);
    assert_eq!(answer["copies"], 3);
    assert_eq!(answer["server"], 0);
    assert!(!answer["epoch"].is_null(), "{answer}");
    let read = cluster.run(&["read", "k"]);
    assert_eq!((code(&read), stdout(&read).as_str()), (0, "v\n"));
    let read = json(&cluster.run(&["read", "k", "--output", "json"]));
    assert_eq!(
        (read["key"].as_str(), read["value"].as_str(), read["version"].as_u64()),
        (Some("k"), Some("v"), Some(1))
    );
    assert_eq!(code(&cluster.run(&["delete", "k"])), 0);
    let gone = cluster.run(&["read", "k"]);
    assert_eq!((code(&gone), stdout(&gone).as_str()), (1, ""));
    assert!(!stderr(&gone).is_empty());
    assert_eq!(code(&cluster.run(&["delete", "k"])), 1);
    let default = cluster.run(&["read", "k", "--default", "none yet"]);
    assert_eq!((code(&default), stdout(&default).as_str()), (0, "none yet\n"));
}

#[tokio::test]
async fn conditions_end_with_1_where_they_are_not_met_and_name_the_version_found() {
    let cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    assert_eq!(code(&cluster.run(&["add", "k", "a", "--if-absent"])), 0);
    let there = cluster.run(&["add", "k", "b", "--if-absent"]);
    assert_eq!((code(&there), stdout(&there).as_str()), (1, ""));
    assert!(stderr(&there).contains("condition not met") && stderr(&there).contains("version 1"), "{there:?}");
    let late = cluster.run(&["add", "k", "b", "--if-version", "7"]);
    assert_eq!(code(&late), 1, "{late:?}");
    assert!(stderr(&late).contains("is at version 1, not 7"), "{late:?}");
    let replaced = json(&cluster.run(&["add", "k", "b", "--if-version", "1", "--output", "json"]));
    assert_eq!((replaced["version"].as_u64(), replaced["existed"].as_bool()), (Some(2), Some(true)));
    assert_eq!(code(&cluster.run(&["delete", "k", "--if-version", "1"])), 1);
    assert_eq!(stdout(&cluster.run(&["read", "k"])), "b\n");
    assert_eq!(code(&cluster.run(&["delete", "k", "--if-version", "2"])), 0);
    let gone = cluster.run(&["delete", "k", "--if-version", "2"]);
    assert_eq!(code(&gone), 1, "{gone:?}");
    assert!(stderr(&gone).contains("has no value"), "{gone:?}");
    assert_eq!(code(&cluster.run(&["add", "k", "v", "--if-absent", "--if-version", "1"])), 2);
}

#[tokio::test]
async fn append_prints_the_key_that_was_made_and_numbers_go_on_after_a_failover() {
    let mut cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    let first = cluster.run(&["append", "log/", "a"]);
    assert_eq!((code(&first), stdout(&first).as_str()), (0, "log/00000000000000000001\n"));
    cluster.kill(0);
    let second = json(&cluster.run(&["append", "log/", "b", "--output", "json"]));
    assert_eq!(second["key"], "log/00000000000000000002");
    for (field, value) in [("number", 2), ("version", 2), ("copies", 2), ("server", 1)] {
        assert_eq!(second[field], value, "{field}: {second}");
    }
    assert!(!second["epoch"].is_null(), "{second}");
    assert_eq!(stdout(&cluster.run(&["read", "log/00000000000000000002"])), "b\n");
    let long = cluster.run(&["append", &"p".repeat(4_090), "v"]);
    assert_eq!(code(&long), 2, "{long:?}");
}

#[tokio::test]
async fn values_of_any_bytes_come_back_as_they_went() {
    let cluster = Cluster::start(1, 0, &[]);
    cluster.wait_for_members(&[0]).await;
    let bytes: Vec<u8> = (0..=255).collect();
    let added = run_with_input(&cluster.addresses(), &["add", "bytes", "-"], &bytes);
    assert_eq!(code(&added), 0, "{added:?}");
    let read = json(&cluster.run(&["read", "bytes", "--output", "json"]));
    assert!(read["value"].is_null() && read["value_base64"].is_string(), "{read}");
    assert_eq!(code(&cluster.run(&["add", "empty", ""])), 0);
    assert_eq!(stdout(&cluster.run(&["read", "empty"])), "\n");
}

#[tokio::test]
async fn any_server_takes_any_request() {
    let cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    for (id, server) in cluster.servers.iter().enumerate() {
        let (key, value) = (format!("k{id}"), format!("v{id}"));
        assert_eq!(code(&run_with(&server.address, &["add", &key, &value])), 0);
    }
    for server in &cluster.servers {
        for id in 0..3 {
            let read = run_with(&server.address, &["read", &format!("k{id}")]);
            assert_eq!(stdout(&read), format!("v{id}\n"), "asked {}", server.address);
        }
    }
}

#[tokio::test]
async fn status_lists_every_server_in_both_forms() {
    let mut cluster = Cluster::start(2, 1, &[]);
    cluster.wait_for_members(&[0, 1]).await;
    cluster.kill(1);
    cluster.wait_for_members(&[0]).await;
    let lines = stdout(&cluster.run(&["status", "--output", "json"]));
    let servers: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    for line in &servers {
        for field in ["id", "address", "role"] {
            assert!(!line[field].is_null(), "{field} is missing: {line}");
        }
        // Neither a server that nobody reaches nor one that keeps no copy may look like one that lags.
        for field in ["commit", "applied", "lag", "digest"] {
            let value = line.get(field).unwrap_or_else(|| panic!("{field} is missing: {line}"));
            assert_eq!(value.is_null(), line["role"] != "primary", "{field}: {line}");
        }
        assert_eq!(line["epoch"].is_null(), line["role"] == "unreachable", "{line}");
    }
    let roles: Vec<&str> = servers.iter().map(|line| line["role"].as_str().expect("a word")).collect();
    assert_eq!(roles, ["primary", "unreachable", "witness"]);
    let table = stdout(&cluster.run(&["status"]));
    for word in ["primary", "unreachable", "witness", "id", "role", "epoch"] {
        assert!(table.to_lowercase().contains(word), "{word} is missing:\n{table}");
    }
}

#[tokio::test]
async fn commands_without_any_server_end_with_3_and_name_whom_they_asked() {
    let address = format!("127.0.0.1:{}", crate::world::free_port());
    for args in [vec!["add", "k", "v"], vec!["read", "k"], vec!["promote", "1"]] {
        let output = run_with(&address, &[args.as_slice(), &["--timeout", "300ms"]].concat());
        assert_eq!(code(&output), 3, "{args:?}: {output:?}");
        assert!(stderr(&output).contains(&address), "{args:?}: {}", stderr(&output));
    }
}

pub(crate) fn json(output: &std::process::Output) -> serde_json::Value {
    let text = stdout(output);
    assert_eq!(text.lines().count(), 1, "{output:?}");
    serde_json::from_str(&text).expect("an object")
}
