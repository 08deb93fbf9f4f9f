use proptest::prelude::*;

use super::*;

fn redis(url: &str) -> RedisConnection {
    RedisConnection::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn database(url: &str) -> DatabaseConnection {
    DatabaseConnection::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

#[test]
fn each_form_of_redis_is_understood() {
    let plain = redis("redis://host");
    assert_eq!((plain.servers, plain.mode, plain.tls), (vec!["host:6379".to_owned()], RedisMode::Standalone, false));
    assert_eq!((plain.username.as_str(), plain.password), ("", None));

    let acl = redis("rediss://starling:p%40ss@redis.db.svc:6380/0");
    assert_eq!((acl.servers, acl.tls), (vec!["redis.db.svc:6380".to_owned()], true));
    assert_eq!((acl.username.as_str(), acl.password), ("starling", Some(Hidden::new("p@ss"))));

    let sentinel = redis("redis+sentinel://:one@a,b:26380,[fd00::1]/mymaster?sentinel_password=two%26");
    assert_eq!(sentinel.servers, ["a:26379", "b:26380", "[fd00::1]:26379"]);
    assert_eq!((sentinel.mode, sentinel.primary.as_deref()), (RedisMode::Sentinel, Some("mymaster")));
    assert_eq!((sentinel.password, sentinel.sentinel_password), (Some(Hidden::new("one")), Some(Hidden::new("two&"))));

    let cluster = redis("rediss+cluster://a:7000,b:7001\n");
    assert_eq!((cluster.mode, cluster.tls, cluster.servers.len()), (RedisMode::Cluster, true, 2));
}

#[test]
fn the_password_is_taken_out_of_the_databases_url() {
    let all = database("postgresql://us%40er:p%2Fw@db:6432/star%20ling?sslmode=verify-full");
    assert_eq!(all.url, "postgres://us%40er@db:6432/star%20ling?sslmode=verify-full");
    assert_eq!((all.password, all.port), (Some(Hidden::new("p/w")), 6432));
    let short = database("postgres://user@db/name");
    assert_eq!((short.url.as_str(), short.password, short.port), ("postgres://user@db:5432/name", None, 5432));
    // As people write it who forgot to escape.
    assert_eq!(database("postgres://user:a@b/c@db/name").password, Some(Hidden::new("a@b/c")));
}

#[test]
fn what_cannot_be_used_is_refused_with_its_reason() {
    for (url, reason) in [
        ("", "does not begin with redis://"),
        ("http://host", "does not begin with redis://"),
        ("redis://", "names no host"),
        ("redis://user:s3cret@", "names no host"),
        ("redis://a,b:0", "host or port number 2"),
        ("redis://a b", "host or port number 1"),
        ("redis://[::1", "host or port number 1"),
        ("redis://host/3", "only 0 is"),
        ("redis://host?timeout=3", "\"timeout\""),
        ("redis+sentinel://host", "lacks the primary's name"),
        ("redis+cluster://host?sentinel_password=s3cret", "\"sentinel_password\""),
        ("redis://:s3cret%zz@host", "password holds a '%'"),
        ("redis://:s3cret%ff@host", "password holds a '%'"),
        ("redis://:s3cret%0A@host", "control character"),
        ("redis://host\nredis://other", "control character"),
        ("redis://:pa?s3cret=1@host", "'@' behind a '?'"),
    ] {
        let error = RedisConnection::parse(url).unwrap_err().to_string();
        assert!(error.contains(reason) && !error.contains("s3cret"), "{url}: {error}");
    }
    for (url, reason) in [
        ("mysql://user@host/name", "does not begin with postgres://"),
        ("postgres://user@host", "lacks the database's name"),
        ("postgres://host/name", "lacks the user"),
        ("postgres://user@a,b/name", "several hosts"),
        ("postgres://user:s3cret@host/name?sslmode=sometimes", "sslmode"),
        ("postgres://user@host/name?sslrootcert=/etc/passwd", "\"sslrootcert\""),
        ("postgres://user@host/name?password=s3cret", "\"password\""),
        ("postgres://us%er@host/name", "user holds a '%'"),
    ] {
        let error = DatabaseConnection::parse(url).unwrap_err().to_string();
        assert!(error.contains(reason) && !error.contains("s3cret"), "{url}: {error}");
    }
}

/// Escapes whatever has a meaning in a URL.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in "(redis|rediss\\+sentinel|redis\\+cluster|postgres)?(://)?\\PC{0,60}") {
        RedisConnection::parse(&text).ok();
        DatabaseConnection::parse(&text).ok();
    }

    #[test]
    fn any_password_comes_out_as_it_went_in(user in "[a-z]{1,8}", password in "[^\\r\\n\\x00]{1,20}", port in 1u16..) {
        let login = format!("{}:{}", escaped(&user), escaped(&password));
        let redis = redis(&format!("redis://{login}@host:{port}"));
        prop_assert_eq!(&redis.username, &user);
        prop_assert_eq!(redis.password.map(|it| it.reveal().to_owned()), Some(password.clone()));
        prop_assert_eq!(redis.servers, [format!("host:{port}")]);
        let database = database(&format!("postgres://{login}@host:{port}/name"));
        prop_assert_eq!(database.password.map(|it| it.reveal().to_owned()), Some(password));
        prop_assert_eq!(database.url, format!("postgres://{}@host:{port}/name", escaped(&user)));
    }

    #[test]
    fn what_the_database_gets_holds_no_password(password in "[A-Z0-9]{12}", rest in "[a-z0-9:/?&=%@]{0,20}") {
        if let Ok(database) = DatabaseConnection::parse(&format!("postgres://u:{password}@h/{rest}")) {
            // An `@` further on moves the login's end: all before it is the password then.
            prop_assert!(!database.url.contains(&password), "{}", database.url);
        }
    }

    #[test]
    fn what_is_understood_is_what_the_server_takes(text in "redis(s)?(\\+cluster)?://[a-z0-9.,:\\[\\]-]{1,30}") {
        if let Ok(redis) = RedisConnection::parse(&text) {
            let settings = starling_settings::Settings {
                redis: starling_settings::Redis { servers: redis.servers, ..Default::default() },
                ..Default::default()
            };
            prop_assert_eq!(settings.check(), []);
        }
    }
}
