//! Everything that is refused names its line and field, and says what to do.

use scxlab_workload::{ParseError, Place, Workload};

fn error(text: &str) -> String {
    Workload::parse("f.json", text).expect_err(text).to_string()
}

/// What is said of a task `t` whose third line is this member.
fn in_task(member: &str) -> String {
    error(&format!("{{\"tasks\": {{\n\"t\": {{\n{member}\n}}, \"u\": {{\"run\": 1}}}}}}"))
}

/// What is said of a global section whose second line is this member.
fn in_global(member: &str) -> String {
    error(&format!("{{\"tasks\": {{\"t\": {{\"run\": 1}}}}, \"global\": {{\n{member}\n}}}}"))
}

fn assert_task(member: &str, message: &str) {
    assert_eq!(in_task(member), format!("f.json:3: tasks.t.{message}"), "{member}");
}

#[test]
fn policies_above_sched_ext() {
    for policy in ["SCHED_FIFO", "SCHED_RR", "SCHED_DEADLINE"] {
        assert_task(
            &format!("\"policy\": \"{policy}\", \"run\": 1"),
            "policy: tasks of the classes above sched_ext cannot be honoured; use SCHED_OTHER, \
             SCHED_BATCH, SCHED_IDLE or SCHED_EXT",
        );
    }
    assert_eq!(
        in_global("\"default_policy\": \"SCHED_FIFO\""),
        "f.json:2: global.default_policy: tasks of the classes above sched_ext cannot be honoured; \
         use SCHED_OTHER, SCHED_BATCH, SCHED_IDLE or SCHED_EXT"
    );
    assert_task(
        "\"policy\": \"SCHED_OTER\"",
        "policy: `SCHED_OTER` means nothing here; did you mean `SCHED_OTHER`?",
    );
    assert_task(
        "\"set_policy\": \"fair\"",
        "set_policy: `fair` means nothing here; see the list of keys",
    );
}

#[test]
fn what_only_rt_app_can_do() {
    for key in ["dl-runtime", "dl-period", "dl-deadline", "period", "deadline"] {
        assert_task(
            &format!("\"{key}\": 1"),
            &format!(
                "{key}: there is no deadline class and no custom slice; use SCHED_OTHER, \
                 SCHED_BATCH, SCHED_IDLE or SCHED_EXT without it"
            ),
        );
    }
    for key in ["util_min", "util_max"] {
        assert_task(
            &format!("\"{key}\": 1"),
            &format!("{key}: there is no utilization clamping; remove it"),
        );
    }
    for key in ["nodes_membind", "numa_data"] {
        assert_task(
            &format!("\"{key}\": [0]"),
            &format!("{key}: memory is not on nodes; remove it"),
        );
    }
    assert_task(
        "\"memrun1\": {\"type\": \"read\"}",
        "memrun1: caches are not simulated, so its cost is not known; use `mem` or `run`",
    );
    for key in ["sem_post", "sem_wait"] {
        assert_task(
            &format!("\"{key}\": \"s\""),
            &format!("{key}: there are no semaphores; use `lock`, `wait`, `signal` and `unlock`"),
        );
    }
    assert_eq!(
        in_global("\"pi_enabled\": true"),
        "f.json:2: global.pi_enabled: mutexes do not hand on priorities; set it to false or remove \
         it"
    );
}

#[test]
fn unknown_keys_get_the_nearest() {
    assert_task("\"slep\": 1", "slep: unknown key; did you mean `sleep`?");
    assert_task("\"instances\": 1", "instances: unknown key; did you mean `instance`?");
    assert_task("\"Run\": 1", "Run: unknown key; did you mean `run`?");
    assert_task("\"xyzzy\": 1", "xyzzy: unknown key; remove it");
    assert_eq!(
        in_global("\"durations\": 1"),
        "f.json:2: global.durations: unknown key; did you mean `duration`?"
    );
    assert_eq!(error("{\n\"task\": {}}"), "f.json:2: task: unknown key; did you mean `tasks`?");
    assert_task(
        "\"timer\": {\"ref\": \"unique\", \"perod\": 1}",
        "timer.perod: unknown key; did you mean `period`?",
    );
    assert_eq!(
        error("{\"resources\": {\n\"m\": {\"type\": \"mutx\"}}, \"tasks\": {\"t\": {\"run\": 1}}}"),
        "f.json:2: resources.m.type: `mutx` means nothing here; did you mean `mutex`?"
    );
    let long = "k".repeat(100_000);
    let message = in_task(&format!("\"{long}\": 1"));
    assert!(message.len() < 200 && message.contains("kkk…: unknown key"), "{message}");
}

#[test]
fn values_of_the_wrong_type() {
    assert_task("\"run\": \"1\"", "run: found \"1\"; give whole microseconds, or [least, most]");
    assert_task("\"run\": 1.5", "run: found 1.5; give whole microseconds, or [least, most]");
    assert_task("\"run\"", "run: found no value; give whole microseconds, or [least, most]");
    assert_task("\"run\": [1]", "run: found a list; give [least, most], both in microseconds");
    assert_task("\"run\": [1, null]", "run: found null; give a list of whole numbers");
    assert_task("\"sleep\": [2, 1]", "sleep: the least is above the most; swap the two");
    assert_task("\"mem\": [1, 2]", "mem: found a list; give a whole number");
    assert_task("\"lock\": 1", "lock: found 1; give a name");
    assert_task("\"lock\": \"\"", "lock: found \"\"; give a name");
    assert_task("\"resume\"", "resume: found no value; give a name");
    assert_task("\"suspend\": 1", "suspend: found 1; give no value, or \"\"");
    assert_task("\"yield\": 1", "yield: found 1; give no value, or \"\"");
    assert_task("\"exit\": \"now\"", "exit: found \"now\"; give no value, or \"\"");
    assert_task("\"wait\": \"c\"", "wait: found \"c\"; give an object");
    assert_task("\"wait\": {\"ref\": \"c\"}", "wait: `mutex` is missing; add it");
    assert_task("\"sync\": {\"mutex\": \"c\"}", "sync: `ref` is missing; add it");
    assert_task("\"timer\": {\"period\": 1}", "timer: `ref` is missing; add it");
    assert_task("\"timer\": {\"ref\": \"x\"}", "timer: `period` is missing; add it");
    assert_task(
        "\"timer\": {\"ref\": \"x\", \"period\": 1, \"mode\": \"abs\"}",
        "timer.mode: `abs` means nothing here; see the list of keys",
    );
    assert_task(
        "\"nice\": \"x\"",
        "nice: found \"x\"; give a nice value, or {\"task\", \"value\"}",
    );
    assert_task("\"nice\": {\"value\": 1}", "nice: `task` is missing; add it");
    assert_task(
        "\"affinity\": 1",
        "affinity: found 1; give a list of CPUs, or {\"task\", \"cpus\"}",
    );
    assert_task("\"affinity\": {\"task\": \"self\"}", "affinity: `cpus` is missing; add it");
    assert_task(
        "\"set_policy\": 1",
        "set_policy: found 1; give a policy, or {\"task\", \"policy\"}",
    );
    assert_task("\"set_policy\": {\"task\": \"u\"}", "set_policy: `policy` is missing; add it");
    assert_task("\"cpus\": 1", "cpus: found 1; give a list of whole numbers");
    assert_task("\"phases\": []", "phases: found a list; give an object");
    assert_task("\"as\": \"fiber\"", "as: `fiber` means nothing here; see the list of keys");
    assert_eq!(
        in_global("\"pi_enabled\": 0"),
        "f.json:2: global.pi_enabled: found 0; give true or false"
    );
    assert_eq!(error("[]"), "f.json:1: found a list; give an object");
    assert_eq!(error("{\"tasks\": 3}"), "f.json:1: tasks: found 3; give an object");
    assert_eq!(error("{\"tasks\": {\"t\"}}"), "f.json:1: tasks.t: found no value; give an object");
}

#[test]
fn numbers_out_of_range() {
    assert_task("\"run\": -1", "run: -1 is out of range; give 0 to 2147483647");
    assert_task("\"run\": 2147483648", "run: 2147483648 is out of range; give 0 to 2147483647");
    assert_task(
        "\"run\": 99999999999999999999",
        "run: found 99999999999999999999; give whole microseconds, or [least, most]",
    );
    assert_task("\"run\": [0, -3]", "run: -3 is out of range; give 0 to 2147483647");
    assert_task("\"priority\": 20", "priority: 20 is out of range; give -20 to 19");
    assert_task("\"nice\": -21", "nice: -21 is out of range; give -20 to 19");
    assert_eq!(
        in_task("\"cpus\": [0,\n1024]"),
        "f.json:4: tasks.t.cpus: 1024 is out of range; give 0 to 1023"
    );
    assert_task("\"loop\": -2", "loop: -2 is out of range; give -1 to 2147483647");
    assert_task("\"instance\": 100001", "instance: 100001 is out of range; give 0 to 100000");
    assert_task("\"delay\": -1", "delay: -1 is out of range; give 0 to 2147483647");
    assert_eq!(
        in_global("\"duration\": -2"),
        "f.json:2: global.duration: -2 is out of range; give -1 to 2147483647"
    );
    assert_eq!(
        error(
            "{\"tasks\": {\"a\": {\"instance\": 60000, \"run\": 1},\n\"b\": {\"instance\": 60000, \"run\": 1}}}"
        ),
        "f.json:2: tasks.b: more than 100000 tasks would start; lower `instance`"
    );
}

#[test]
fn things_that_make_no_sense() {
    assert_task("\"cpus\": []", "cpus: no CPU is left to run on; name one, or remove the key");
    assert_task(
        "\"affinity\": []",
        "affinity: no CPU is left to run on; name one, or remove the key",
    );
    assert_task(
        "\"taskgroup\": \"a\"",
        "taskgroup: the path does not start with /; put one in front",
    );
    assert_task(
        "\"taskgroup\": \"/a/../b\"",
        "taskgroup: the path has . or .. in it; write out where it leads",
    );
    assert_task("\"phases\": {}", "phases: there is no phase; add one, or remove the key");
    assert_task(
        "\"phases\": {\"p\": {\"loop\": 2}}",
        "phases.p: there is no event, so nothing is done; add one",
    );
    assert_task(
        "\"phases\": {\"p\": {\"loop\": 0, \"run\": 1}}",
        "phases.p: `loop` is 0, with which rt-app never leaves the phase; say -1 for that, or \
         remove the phase",
    );
    assert_task(
        "\"phases\": {\"p\": {\"run\": 1}}, \"sleep\": 1",
        "sleep: rt-app never comes to events beside `phases`; move it into a phase",
    );
    for key in ["delay", "instance", "as", "phases"] {
        assert_task(
            &format!("\"phases\": {{\"p\": {{\"run\": 1, \"{key}\": 1}}}}"),
            &format!("phases.p.{key}: this is for tasks, not phases; move it out"),
        );
    }
    assert_eq!(
        error("{\"tasks\": {\n\"t\": {\"loop\": 1}}}"),
        "f.json:2: tasks.t: there is no event, so nothing is done; add one"
    );
    assert_eq!(error("{}"), "f.json:1: `tasks` is missing; add it");
    assert_eq!(
        error("{\n\"tasks\": {}}"),
        "f.json:2: tasks: no task would start; give one an `instance` of 1 or more"
    );
    assert_eq!(
        error("{\"tasks\": {\"\": {\"run\": 1}}}"),
        "f.json:1: tasks: a task's name must have 1 to 255 bytes; rename it"
    );
    let long = "n".repeat(256);
    assert_task(
        &format!("\"lock\": \"{long}\""),
        "lock: the name is longer than 255 bytes; shorten it",
    );
}

#[test]
fn things_given_twice() {
    assert_eq!(
        error("{\"tasks\": {\n\"t\": {\"run\": 1},\n\"t\": {\"run\": 1}}}"),
        "f.json:3: tasks.t: given in line 2 already; keep one of the two"
    );
    assert_eq!(
        error("{\"tasks\": {\"t\": {\"loop\": 1,\n\"loop\": 1}}}"),
        "f.json:2: tasks.t.loop: given in line 1 already; keep one of the two"
    );
    assert_eq!(
        error("{\"tasks\": {\"t\": {\"run\": 1}},\n\"tasks\": {}}"),
        "f.json:2: tasks: given in line 1 already; keep one of the two"
    );
    assert_eq!(
        in_global("\"duration\": 1, \"duration\": 2"),
        "f.json:2: global.duration: given in line 2 already; keep one of the two"
    );
}

#[test]
fn names_that_lead_nowhere() {
    for key in ["fork", "thread", "process", "exec", "kill"] {
        assert_task(
            &format!("\"{key}\": \"nobody\""),
            &format!("{key}: there is no task `nobody`; describe it under `tasks`"),
        );
    }
    assert_task("\"fork\": \"U\"", "fork: there is no task `U`; did you mean `u`?");
    assert_task(
        "\"nice\": {\"task\": \"nobody\", \"value\": 1}",
        "nice.task: there is no task `nobody`; describe it under `tasks`",
    );
}

#[test]
fn a_word_for_who_that_is_also_a_name() {
    assert_eq!(
        error("{\"tasks\": {\"child\": {\"run\": 1},\n\"t\": {\"kill\": \"child\"}}}"),
        "f.json:2: tasks.t.kill: this is a word for who is meant, but also a task's name; rename \
         the task"
    );
}

#[test]
fn barriers_that_cannot_be_counted() {
    let created = "tasks.u.barrier: a barrier counts the tasks that there are from the start, so \
                   it cannot be in one that other tasks create; take the barrier out, or give the \
                   task an `instance` and do not create it elsewhere";
    assert_eq!(
        error("{\"tasks\": {\"t\": {\"fork\": \"u\"},\n\"u\": {\"barrier\": \"b\"}}}"),
        format!("f.json:2: {created}")
    );
    assert_eq!(
        error("{\"tasks\": {\"t\": {\"run\": 1},\n\"u\": {\"instance\": 0, \"barrier\": \"b\"}}}"),
        format!("f.json:2: {created}")
    );
    assert_task(
        "\"barrier1\": \"b\", \"barrier2\": \"b\"",
        "barrier2: the task has this barrier already, and rt-app, which counts every mention, \
         would wait for ever; give each barrier of a task a name of its own",
    );
}

#[test]
fn the_place_can_be_had_by_itself() {
    let error = Workload::parse("f.json", "{\"tasks\": {\n\"t\": {\"slep\": 1}}}").unwrap_err();
    let ParseError::UnknownKey { at, nearest } = error else { panic!("{error:?}") };
    let place = Place { file: "f.json".to_owned(), line: 2, field: "tasks.t.slep".to_owned() };
    assert_eq!(*at, place);
    assert_eq!(nearest.as_deref(), Some("sleep"));
}
