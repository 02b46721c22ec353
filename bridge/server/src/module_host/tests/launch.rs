//! What a child process finds around it, and what it may use.

use ringback_proto::provider::Secret;

use super::shared::{joined, pool};
use super::*;

/// What Python, or a shell that starts it, sets by itself.
const OWN: [&str; 5] = ["LC_CTYPE", "_", "PWD", "OLDPWD", "SHLVL"];

/// What a process tells of its surroundings.
async fn surroundings(launch: Launch) -> Vec<Value> {
    let pool = pool(|spec| spec.launch = launch);
    let mut hosted = joined(&pool, "surroundings").await;
    let FromHost::Message(FromModule::Event(told)) = next(&mut hosted).await else { panic!() };
    told.data.as_array().unwrap().clone()
}

#[tokio::test]
async fn a_process_has_little_of_the_bridges_surroundings_and_what_it_is_given() {
    let inherits = |name: &str| Launch {
        surroundings: Surroundings { inherited: vec![name.into()], ..Surroundings::default() },
        ..Launch::default()
    };
    let told = surroundings(inherits("*")).await;
    let names = told[0].as_array().unwrap();
    let ours = std::env::vars().map(|(name, _)| name).filter(|name| !OWN.contains(&&**name));
    assert_eq!(ours.into_iter().find(|name| !names.contains(&json!(name))), None);
    assert_eq!(told[2], json!(std::env::current_dir().unwrap()));
    // Cargo sets it for tests.
    let has_it = |told: &[Value]| told[0].as_array().unwrap().contains(&json!("CARGO_PKG_NAME"));
    assert!(has_it(&surroundings(inherits("CARGO_PKG_*")).await));
    assert!(!has_it(&surroundings(Launch::default()).await));

    let dir = std::env::temp_dir().canonicalize().unwrap();
    let env = vec![("GIVEN".to_owned(), Secret::from("s3cret"))];
    let launch = Launch { env, dir: Some(dir.clone()), ..Launch::default() };
    assert!(!format!("{launch:?}").contains("s3cret"));
    let told = surroundings(launch).await;
    let names = told[0].as_array().unwrap();
    for name in ["GIVEN", "PATH", "RINGBACK_STDIO"] {
        assert!(names.contains(&json!(name)), "{names:?}");
    }
    assert_eq!((&told[1], &told[2]), (&json!("s3cret"), &json!(dir)));
}

#[tokio::test]
async fn a_process_gets_none_of_the_variables_that_secrets_are_kept_in_but_those_it_is_given() {
    let withheld = vec!["HOME".to_owned(), "CARGO_PKG_NAME".to_owned()];
    let env = vec![("CARGO_PKG_NAME".to_owned(), Secret::from("given"))];
    let kept = Surroundings { inherited: vec!["*".into()], withheld };
    let told = surroundings(Launch { surroundings: kept, env, ..Launch::default() }).await;
    let names = told[0].as_array().unwrap();
    assert!(std::env::var_os("HOME").is_some() && !names.contains(&json!("HOME")));
    assert!(names.contains(&json!("CARGO_PKG_NAME")));
}

/// A terminal tells a whole group of Ctrl-C: the bridge drains then, and needs its modules for that.
#[cfg(unix)]
#[tokio::test]
async fn a_process_is_in_a_group_of_its_own() {
    let mut hosted = joined(&pool(|_| {}), "group").await;
    let FromHost::Message(FromModule::Event(told)) = next(&mut hosted).await else { panic!() };
    assert_eq!(told.data[0], told.data[1], "it leads the group that it is in");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let dir = Some("/no/such/folder".into());
    let pool = pool(|spec| spec.launch = Launch { dir, ..Launch::default() });
    let FromHost::Gone { reason: Some(reason) } = next(&mut spawn_child(&pool, start())).await
    else {
        panic!("it was started")
    };
    assert_eq!(reason, "cannot start python3: its `dir`, /no/such/folder, is no folder");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn limits_hold() {
    let limits = Limits { memory: Some(512 << 20), files: Some(64), nice: Some(7) };
    let told = surroundings(Launch { limits, ..Launch::default() }).await;
    assert_eq!(told[3..], [json!(512 << 20), json!(64), json!(7)]);
    // What the system does not let the bridge have is not more for its modules.
    let limits = Limits { files: Some(1 << 40), ..Limits::default() };
    let told = surroundings(Launch { limits, ..Launch::default() }).await;
    assert!(told[4].as_u64().unwrap() < 1 << 40);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_module_that_wants_too_much_memory_dies_alone_and_says_why() {
    let limits = Limits { memory: Some(512 << 20), ..Limits::default() };
    let limited = pool(|spec| spec.launch = Launch { limits, ..Launch::default() });
    let mut modest = joined(&pool(|_| {}), "good").await;
    let mut greedy = joined(&limited, "greedy").await;
    let reason = restarting(&mut greedy).await;
    assert_eq!(reason, "exited with status 1: MemoryError; its memory is limited to 512 MiB");
    modest.try_send(audio(0, &[7])).unwrap();
    assert_eq!(next(&mut modest).await, FromHost::Audio { epoch: None, samples: vec![7] });
}
