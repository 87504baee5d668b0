//! The scripts in `tests/turns`, each a test of its own.

mod harness;

/// Declares one test per script; the file has the test's name with dashes.
macro_rules! scenarios {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                harness::check(stringify!($name));
            }
        )*

        const LISTED: &[&str] = &[$(stringify!($name)),*];
    };
}

scenarios! {
    s_hello_sequence
    s_start_reordered
    s_dup_start
    s_partial_batch
    s_stale_token
    s_lease_steal
    s_return_with_open_tasks
    s_throw_with_open_tasks
    s_dup_completion
    s_bad_response_backoff
    s_empty_vs_null
    s_timer_basic
    s_timer_past
    s_timer_year_9999
    s_timer_cancel
    s_timer_left_open
    s_timer_order
    s_late_result
    s_retry_same_id
    s_retry_new_id
    s_child_basic
    s_child_fail_details
    s_child_terminated
    s_child_retry_same_id
    s_child_id_live_collision
    s_child_own_id
    s_detached_child
    s_child_can
    s_parent_can_drops_child
    s_event_before_start
    s_event_to_terminal
    s_event_idempotency_key
    s_event_orchestrator_to_orchestrator
    s_can_basic
    s_can_actions_applied
    s_can_version
    s_custom_status
    s_terminate
    s_terminate_recursive
    terminate_spares_strangers
    terminate_keeps_carried
    s_terminate_no_worker
    s_terminate_vs_can
    s_terminate_stops_retries
    s_terminate_pending
    s_suspend_resume
    s_suspend_no_refire
    s_suspend_event
    s_suspend_late
    s_suspend_terminate
    s_scheduled_start
    s_purge_one
    s_purge_live_refused
    s_purge_retried_child
    s_reuse_policies
    s_reuse_no_leak
    s_create_idempotent
    s_clock_back
    payload_too_large
    too_many_actions
    custom_status_too_large
    inbox_full
    turn_size
}

#[test]
fn every_script_in_the_folder_is_a_test() {
    let files = std::fs::read_dir(harness::folder()).unwrap();
    let mut names: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .map(|name| name.trim_end_matches(".txt").replace('-', "_"))
        .collect();
    names.sort_unstable();
    let mut listed = LISTED.to_vec();
    listed.sort_unstable();
    assert_eq!(names, listed);
}
