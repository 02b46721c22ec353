//! Jobs asked for and results posted: what each request is answered with, and what becomes of the job.

use super::*;

/// The job `j` under way, whose first value, "a", has come.
struct Streaming {
    rig: Rig,
    client: Client,
    job: Arc<Job>,
    values: Values,
    wire: Wire,
}

/// A client of this name has begun to stream.
async fn streaming(agent: &str) -> Streaming {
    let rig = Rig::new(config());
    let client = rig.ready_client(0).await;
    let (job, mut values) = rig.submit("j");
    client.take().await;
    let mut wire = client.stream("j", agent).await;
    wire.chunk("\"a\"").await;
    assert_eq!(values.recv().await, Some(json!("a")));
    Streaming { rig, client, job, values, wire }
}

#[tokio::test(start_paused = true)]
async fn the_first_poll_is_answered_at_once_and_later_ones_wait_for_work() {
    let rig = Rig::new(config());
    let client = rig.client(0);
    let began = tokio::time::Instant::now();
    assert_eq!(client.get("job").await, (204, String::new()));
    assert_eq!(began.elapsed(), Duration::ZERO, "TypeScript tells its functions only after it");
    assert_eq!(client.get("job").await.0, 204);
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.job().await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _job = rig.submit("c-0-1");
    let job = waiting.await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(6), "no poll sleeps on");
    assert_eq!(
        job,
        json!({"jobId": "c-0-1", "queryType": "f", "query": {"n": 1}, "temporaryCredentialsAuthToken": "",
            "authHeader": "", "userId": "c"})
    );
}

#[tokio::test(start_paused = true)]
async fn version_2_has_the_token_in_its_path_and_both_forms_of_a_job() {
    let rig = Rig::new(config());
    let client = rig.ready_client(0).await;
    let job = rig.submit("c-0-1");
    let mut wire = client.connect();
    wire.write(&format!("GET /{TOKEN}/job HTTP/1.1\r\nhost: h\r\n\r\n")).await;
    let (status, body) = wire.answer().await.unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["jobId"]), (200, &json!("c-0-1")));
    assert_eq!(
        (&body["type"], &body["computeModuleJobV1"]["query"]["n"]),
        (&json!("computeModuleJobV1"), &json!(1))
    );
    // The oldest Java client has fixed paths and the header.
    let error = "JobId: c-0-1\njava.lang.IllegalStateException: no";
    assert_eq!(client.request("POST /results/c-0-1", error).await.0, 202);
    let (values, outcome) = result(job).await;
    assert!(values.is_empty() && failed(&outcome).contains("IllegalStateException"), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn who_has_no_token_gets_nothing() {
    let rig = Rig::new(config());
    let _job = rig.submit("c-0-1");
    for head in [
        format!("GET {V1}/job HTTP/1.1\r\nhost: h"),
        format!("GET {V1}/job HTTP/1.1\r\nhost: h\r\nmodule-auth-token: tok-124"),
        "GET /tok-124/job HTTP/1.1\r\nhost: h".into(),
        "GET /job HTTP/1.1\r\nhost: h".into(),
    ] {
        let mut wire = rig.client(0).connect();
        wire.write(&format!("{head}\r\n\r\n")).await;
        assert_eq!(wire.answer().await, Some((401, String::new())), "{head}");
    }
    assert_eq!(rig.client(0).get("nothing").await.0, 404);
    assert_eq!(rig.client(0).post("nothing", "").await.0, 404);
    assert!(!rig.desks.iter().any(|desk| format!("{desk:?}").contains(TOKEN)), "it is redacted");
}

#[tokio::test(start_paused = true)]
async fn no_replica_has_more_jobs_than_it_may() {
    let rig = Rig::new(FunctionConfig { concurrency: 2, ..config() });
    let client = rig.ready_client(0).await;
    let jobs = ["a", "b", "c"].map(|id| rig.submit(id));
    assert_eq!((client.take().await, client.take().await), ("a".into(), "b".into()));
    assert_eq!(client.get("job").await.0, 204, "it has two");
    client.answer("b", &json!(1)).await;
    assert_eq!(client.take().await, "c");
    let [_, b, _] = jobs;
    assert_eq!(result(b).await, (vec![json!(1)], Outcome::Answered));
}

#[tokio::test(start_paused = true)]
async fn work_goes_to_the_replica_that_has_less() {
    let rig = Rig::new(FunctionConfig { replicas: 2, concurrency: 2, ..config() });
    let clients = [rig.ready_client(0).await, rig.ready_client(1).await];
    let _jobs = ["a", "b"].map(|id| rig.submit(id));
    assert_eq!(clients[0].take().await, "a");
    let waiting = clients.clone().map(|client| {
        tokio::spawn(async move {
            tokio::time::timeout(Duration::from_secs(1), client.take()).await.is_ok()
        })
    });
    // Both ask; the first would get it if it were not busy.
    let [first, second] = waiting;
    assert!(second.await.unwrap() || first.await.unwrap());
    assert_eq!(rig.board().wanted_at(0) + rig.board().wanted_at(1), 2);
}

#[tokio::test(start_paused = true)]
async fn results_in_one_piece_are_told_from_failures_by_their_shape() {
    let rig = Rig::new(config());
    let client = rig.ready_client(0).await;
    for (body, expected) in [
        (r#"{"text": "hi"}"#, Ok(vec![json!({"text": "hi"})])),
        ("", Ok(vec![Value::Null])),
        (r#"{"exception": "nope: Traceback"}"#, Err("nope: Traceback")),
        (r#"{"error": "TypeError", "reason": "x"}"#, Err("TypeError: x")),
        (r#"{"error": "Unknown query type"}"#, Err("Unknown query type")),
        ("JobId: 7", Err("not JSON")),
    ] {
        let job = rig.submit("j");
        let id = client.take().await;
        assert_eq!(client.post(&format!("results/{id}"), body).await.0, 204);
        let (values, outcome) = result(job).await;
        match expected {
            Ok(expected) => assert_eq!((values, outcome), (expected, Outcome::Answered)),
            Err(word) => {
                assert!(values.is_empty() && failed(&outcome).contains(word), "{outcome:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_beyond_all_bounds_is_read_to_its_end_and_fails() {
    let rig = Rig::new(config());
    let client = rig.ready_client(0).await;
    let job = rig.submit("j");
    client.take().await;
    let endless = format!("\"{}\"", "x".repeat(16 * 1024 * 1024));
    assert_eq!(client.post("results/j", &endless).await.0, 204);
    assert!(failed(&result(job).await.1).contains("octets"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_gives_its_values_as_they_come() {
    let rig = Rig::new(config());
    let client = rig.ready_client(0).await;
    let (job, mut values) = rig.submit("j");
    client.take().await;
    let mut wire = client.stream("j", PYTHON).await;
    wire.chunk("\"real\"").await;
    assert_eq!(values.recv().await, Some(json!("real")), "before the stream has ended");
    for chunk in ["1", "23", "{\"a\":", "1}\"x\""] {
        wire.chunk(chunk).await;
    }
    assert_eq!(wire.end().await, Some((204, String::new())));
    let rest = result((job, values)).await;
    assert_eq!(rest, (vec![json!(1), json!(23), json!({"a": 1}), json!("x")], Outcome::Answered));
    assert_eq!(rig.board().wanted_at(0), 0, "there is room again");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_stream_of_values_fails() {
    let rig = Rig::new(config());
    let client = rig.ready_client(0).await;
    for (chunks, word) in
        [(["\"a\"", "nonsense "], "not JSON"), (["\"a\"", "\"half"], "within a value")]
    {
        let job = rig.submit("j");
        client.take().await;
        let mut wire = client.stream("j", NODE).await;
        wire.chunk(chunks[0]).await;
        wire.chunk(chunks[1]).await;
        assert_eq!(
            wire.end().await,
            Some((204, String::new())),
            "any other answer ends the client"
        );
        let (values, outcome) = result(job).await;
        assert_eq!(values, [json!("a")]);
        assert!(failed(&outcome).contains(word), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_cut_goes_on_where_it_was() {
    let Streaming { rig: _rig, client, job, values, wire } = streaming(PYTHON).await;
    drop(wire);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut wire = client.stream("j", PYTHON).await;
    wire.chunk("\"b\"").await;
    assert_eq!(wire.end().await.unwrap().0, 204);
    assert_eq!(result((job, values)).await, (vec![json!("b")], Outcome::Answered));
}

#[tokio::test(start_paused = true)]
async fn an_exception_in_mid_stream_is_a_failure() {
    let Streaming { rig, client, job, values, wire } = streaming(PYTHON).await;
    drop(wire);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The client goes on with a generator that is over.
    assert_eq!(client.stream("j", PYTHON).await.end().await.unwrap().0, 204);
    let (values, outcome) = result((job, values)).await;
    assert!(values.is_empty() && failed(&outcome).contains("mid-stream"), "{outcome:?}");
    // An empty stream that was not cut is an answer like any other.
    let job = rig.submit("k");
    client.take().await;
    assert_eq!(client.stream("k", PYTHON).await.end().await.unwrap().0, 204);
    assert_eq!(result(job).await, (vec![], Outcome::Answered));
}

#[tokio::test(start_paused = true)]
async fn a_python_stream_that_nobody_wants_is_cut_until_the_client_gives_up() {
    let Streaming { rig, client, job, values: _values, mut wire } = streaming(PYTHON).await;
    rig.board().abandon(rig.pool.inner.clock.now(), &job, "cleared");
    assert_eq!(wire.answer().await, None, "no answer, but the end of the connection");
    let _next = rig.submit("k");
    for _ in 0..4 {
        assert_eq!(client.stream("j", PYTHON).await.end().await, None);
        assert_eq!(
            rig.board().lease(rig.pool.inner.clock.now(), 0).map(|job| job.id.clone()),
            None,
            "it is busy"
        );
    }
    client.answer("j", &json!({"error": "Unable to post job result after 5 attempts"})).await;
    assert_eq!(client.take().await, "k", "and now it is not");
    assert_eq!(job.outcome(), Outcome::Dropped("cleared"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_a_client_that_would_die_of_a_cut_is_read_to_its_end() {
    let Streaming { rig, client: _client, job, mut values, mut wire } = streaming(NODE).await;
    rig.board().abandon(rig.pool.inner.clock.now(), &job, "cleared");
    wire.chunk("\"b\"").await;
    assert_eq!(wire.end().await, Some((204, String::new())));
    assert_eq!(values.recv().await, None);
    assert_eq!(rig.board().wanted_at(0), 0);
}

#[tokio::test(start_paused = true)]
async fn results_that_nobody_asked_for_are_taken_and_forgotten() {
    let rig = Rig::new(FunctionConfig { replicas: 2, ..config() });
    let client = rig.ready_client(0).await;
    client.answer("never", &json!(1)).await;
    let mut wire = client.stream("never", PYTHON).await;
    wire.chunk("1").await;
    assert_eq!(wire.end().await, Some((204, String::new())));
    let job = rig.submit("j");
    client.take().await;
    rig.client(1).answer("j", &json!("stolen")).await;
    client.answer("j", &json!("mine")).await;
    client.answer("j", &json!("twice")).await;
    assert_eq!(result(job).await, (vec![json!("mine")], Outcome::Answered));
}

#[tokio::test(start_paused = true)]
async fn a_function_has_so_long_to_answer() {
    let rig = Rig::new(config());
    let client = rig.ready_client(0).await;
    let job = rig.submit("j");
    client.take().await;
    let began = tokio::time::Instant::now();
    let (_, outcome) = result(job).await;
    assert_eq!(failed(&outcome), "it did not answer within 30s");
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    let _next = rig.submit("k");
    assert_eq!(client.get("job").await.0, 204, "it still has the first");
    assert_eq!(client.take().await, "k", "which is given up");
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_be_silent_for_so_long_unless_it_is_the_call_that_does_not_listen() {
    let rig = Rig::new(config());
    let client = rig.ready_client(0).await;
    let (job, values) = rig.submit("j");
    client.take().await;
    let mut wire = client.stream("j", NODE).await;
    for n in 0..20 {
        wire.chunk(&n.to_string()).await;
    }
    // More came than is kept for a call that does not listen.
    tokio::time::sleep(Duration::from_secs(100)).await;
    let began = tokio::time::Instant::now();
    let (values, outcome) = result((job, values)).await;
    assert_eq!((values.len(), failed(&outcome)), (20, "its stream was silent for 10s"));
    assert_eq!(began.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_begins_anew_gives_its_jobs_back_once() {
    let rig = Rig::new(FunctionConfig { concurrency: 2, ..config() });
    let client = rig.ready_client(0).await;
    let (first, mut second) = (rig.submit("a"), rig.submit("b"));
    assert_eq!((client.take().await, client.take().await), ("a".into(), "b".into()));
    let mut wire = client.stream("b", PYTHON).await;
    wire.chunk("1").await;
    assert_eq!(second.1.recv().await, Some(json!(1)));
    let (status, body) = client.post("restart-notify", "").await;
    assert_eq!((status, body.as_str()), (200, r#"["a","b"]"#));
    assert!(
        failed(&result(second).await.1).contains("started again"),
        "what was heard of is not done twice"
    );
    assert_eq!(client.take().await, "a", "what was not, is");
    assert_eq!(client.post("restart-notify", "").await.1, r#"["a"]"#);
    assert!(failed(&result(first).await.1).contains("started again"), "but not for ever");
    assert_eq!(client.post("restart-notify", "").await, (200, "[]".into()));
}

#[tokio::test(start_paused = true)]
async fn ready_is_who_asks_for_work_and_has_told_functions_or_need_not() {
    let rig = Rig::new(config());
    let client = rig.client(0);
    client.get("job").await;
    assert_eq!((rig.board().ready(true), rig.board().ready(false)), (0, 1));
    client.post("schemas", "[]").await;
    assert_eq!(rig.board().ready(true), 0, "its import failed");
    client
        .post("schemas", r#"[{"functionName": "f", "inputs": [], "output": {"type": "string"}}]"#)
        .await;
    assert_eq!(rig.board().ready(true), 1);
    assert_eq!(rig.board().functions(0), Some(vec!["f".to_owned()]));
    rig.board().retire(0);
    assert_eq!(rig.board().ready(false), 0);
}

#[tokio::test(start_paused = true)]
async fn of_too_many_jobs_guesses_go_first_and_then_the_newest() {
    let rig = Rig::new(config());
    let client = rig.ready_client(0).await;
    let guess = rig.submit_guess("g", true);
    let jobs = ["a", "b", "c", "d"].map(|id| rig.submit(id));
    assert_eq!(result(guess).await.1, Outcome::Dropped("queue_full"));
    let [a, b, c, d] = jobs;
    assert_eq!(result(d).await.1, Outcome::Dropped("queue_full"));
    assert_eq!(result(rig.submit_guess("h", true)).await.1, Outcome::Dropped("queue_full"));
    for (id, job) in [("a", a), ("b", b), ("c", c)] {
        assert_eq!(client.take().await, id);
        client.answer(id, &json!(id)).await;
        assert_eq!(result(job).await.0, [json!(id)]);
    }
}
