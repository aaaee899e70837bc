//! Every event that comes with the source, replayed against the function that it is for.

use std::path::Path;

use harness::cloud::{AVATAR_TRANSCODER, CloudOptions, EXPIRY_SWEEPER, LocalCloud, UPLOAD_VALIDATOR};
use harness::replay;
use serde_json::Value;

/// The function that an event file is for.
fn function_of(name: &str) -> &'static str {
    match name {
        _ if name.starts_with("s3-files") => UPLOAD_VALIDATOR,
        _ if ["schedule", "map-batch", "timer", "sweep"].iter().any(|part| name.contains(part)) => {
            EXPIRY_SWEEPER
        }
        _ => AVATAR_TRANSCODER,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_file_ends_in_an_outcome() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json"))
        .collect();
    names.sort();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        let event: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join(&name)).unwrap()).unwrap();
        let options = CloudOptions { notifies: false, ..CloudOptions::default() };
        let cloud = LocalCloud::start(options).await.unwrap();
        replay::seed(&cloud.s3, &event).unwrap();
        let result = cloud.function(function_of(&name)).invoke(event).await;
        let answer = result.ok().unwrap_or_else(|| panic!("{name}: {:?}", result.error()));
        println!("{name}: {answer}");
        let failed =
            answer["outcomes"].as_array().into_iter().flatten().filter(|it| it["status"] == "failed");
        // These two bring a record that nobody can read, among others.
        let expected = usize::from(name == "s3-put-many.json" || name == "sqs-mixed.json");
        assert_eq!(failed.count(), expected, "{name}: {answer}");
        let says_something =
            ["outcomes", "batchItemFailures", "results"].iter().any(|field| answer.get(field).is_some());
        assert!(says_something, "{name}: {answer}");
    }
}
