//! Sources and who can reach them.

use std::path::PathBuf;

use expect_test::expect;

use super::super::{TlsFiles, Udp};
use super::{Sources, config, fails, flag, warns};

#[test]
fn loopback_needs_nothing() {
    let config = config(
        "tcp.listen = '127.0.0.1:0'\nhttp.listen = '[::1]:0'\nudp.listen = '127.9.9.9:1'\nquery.listen = '127.0.0.1:0'",
    );
    assert!(config.tcp.is_some_and(|tcp| tcp.tls.is_none() && tcp.token_file.is_none()));
    assert!(config.http.is_some() && config.query.listen.is_some());
    assert_eq!(config.udp, Some(Udp { listen: "127.9.9.9:1".parse().unwrap(), preset: 0, receive_buffer: 4 << 20 }));
}

#[test]
fn other_addresses_need_tls_and_a_token() {
    fails(
        "tcp.listen = '0.0.0.0:7070'",
        expect![
            "tally.toml:4: tcp.listen: 0.0.0.0:7070 can be reached from other machines, which takes TLS and a token: set tcp.tls_cert, tcp.tls_key and tcp.token_file, or listen on 127.0.0.1:7070"
        ],
    );
    fails(
        "http = { listen = '[::]:1', token_file = 't' }\nquery = { listen = '10.0.0.1:1', tls_cert = 'c', tls_key = 'k' }",
        expect![[r#"
            2 mistakes in the configuration:
              tally.toml:4: http.listen: [::]:1 can be reached from other machines, which takes TLS and a token: set http.tls_cert and http.tls_key, or listen on [::1]:1
              tally.toml:5: query.listen: 10.0.0.1:1 can be reached from other machines, which takes TLS and a token: set query.token_file, or listen on 127.0.0.1:1"#]],
    );
    fails(
        "udp.listen = '192.168.0.1:7071'",
        expect![
            "tally.toml:4: udp.listen: 192.168.0.1:7071 can be reached from other machines, and UDP has neither TLS nor tokens; listen on 127.0.0.1:7071, or use tcp.listen with tcp.tls_cert, tcp.tls_key and tcp.token_file"
        ],
    );
    // An IPv4 address in IPv6 clothes is no loopback address either.
    fails(
        "tcp.listen = '[::ffff:127.0.0.1]:1'",
        expect![
            "tally.toml:4: tcp.listen: [::ffff:127.0.0.1]:1 can be reached from other machines, which takes TLS and a token: set tcp.tls_cert, tcp.tls_key and tcp.token_file, or listen on [::1]:1"
        ],
    );
    let http = config("[http]\nlisten = '0.0.0.0:443'\ntls_cert = 'c'\ntls_key = '/k'\ntoken_file = 't'").http.unwrap();
    assert_eq!(http.tls, Some(TlsFiles { cert: "/etc/tally/c".into(), key: "/k".into() }));
    assert_eq!(http.token_file, Some(PathBuf::from("/etc/tally/t")));
}

#[test]
fn half_of_tls_is_none() {
    fails(
        "tcp = { listen = '127.0.0.1:1', tls_key = 'k' }",
        expect!["tally.toml:4: tcp.tls_key: TLS takes both files; set tcp.tls_cert too"],
    );
}

#[test]
fn a_source_is_needed_but_any_will_do() {
    let least = [flag("--data-dir", "data_dir", "d"), flag("--plugins-dir", "plugins_dir", "p")];
    let sources = |more: &[super::Flag]| Sources { flags: [&least, more].concat(), ..Sources::default() };
    expect!["no source of events: give --unix PATH, or unix.path, tcp.listen, udp.listen or http.listen in the configuration file"].assert_eq(&sources(&[]).load().unwrap_err().to_string());
    let config = sources(&[flag("--udp", "udp.listen", "127.0.0.1:0")]).load().unwrap().config;
    assert!(config.unix.is_none() && config.udp.is_some());
    assert_eq!(config.query.socket, PathBuf::from("d/tally.sock.query"));
    assert_eq!(config.admin.socket, PathBuf::from("d/tally.sock.admin"));
}

#[test]
fn doors_do_not_share_an_address() {
    fails(
        "query.socket = '/run/t.sock'\nadmin.socket = '/run/t.sock'",
        expect![[r#"
        2 mistakes in the configuration:
          tally.toml:4: query.socket: /run/t.sock is the socket of unix.path already; each needs its own
          tally.toml:5: admin.socket: /run/t.sock is the socket of unix.path already; each needs its own"#]],
    );
    fails(
        "tcp.listen = '127.0.0.1:1'\nhttp.listen = '127.0.0.1:1'\nudp.listen = '127.0.0.1:1'",
        expect!["tally.toml:5: http.listen: 127.0.0.1:1 is the address of tcp.listen already; each needs its own"],
    );
}

#[test]
fn what_changes_nothing_is_said() {
    warns(
        "tcp.preset = 'segment'\nquery.hosts = ['a']\nquery.max_rows = 5\nlog.sync_interval = '1s'",
        expect![[r#"
        tally.toml:4: tcp.preset has no effect without tcp.listen
        tally.toml:5: query.hosts has no effect without query.listen
        tally.toml:7: log.sync_interval has no effect without log.durability = interval"#]],
    );
    warns(
        "[preset.mine]\n[preset.other]",
        expect![[r#"
            tally.toml:4: preset.mine is not used; name it in unix.preset, tcp.preset, udp.preset or http.preset
            tally.toml:5: preset.other is not used; name it in unix.preset, tcp.preset, udp.preset or http.preset"#]],
    );
    warns(
        "unix.preset = 'mine'\n[preset.mine]\n[preset.other]",
        expect![
            "tally.toml:6: preset.other is not used; name it in unix.preset, tcp.preset, udp.preset or http.preset"
        ],
    );
}
