//! What every backend must do, as checks that know nothing but the trait.
//!
//! ```text
//! taskhub_store::conformance!(open)                      // `open` gives `(store, guard)`
//! taskhub_store::conformance!(open, reopen = reopen)     // `reopen(guard)` opens the same data again
//! taskhub_store::conformance!(@nodes open)               // more, for a store that several nodes share
//! ```
//!
//! The macro expands to one `#[test]` per check, each over a store of its own. The guard keeps what the
//! store lives on, a folder perhaps, until the check is over; `()` will do.
//!
//! A check fails by panicking. It makes its commits with core's own functions and holds what is read
//! back against the memory of an [`Owner`], which folds the same commits.

pub mod commits;
pub mod fences;
pub mod generations;
pub mod hubs;
pub mod listing;
pub mod messages;
pub mod model;
pub mod nodes;
mod owner;
pub mod payloads;
pub mod recovery;
pub mod reopening;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

pub use owner::{NODE, Owner, hub, instance, name};

use crate::Fut;

/// Wakes the thread that waits in [`block_on`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread; the store has threads of its own, if it needs any.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        thread::park();
    }
}

/// Runs a call that must succeed.
///
/// # Panics
///
/// If it fails.
pub fn done<T>(call: Fut<'_, T>) -> T {
    match block_on(call) {
        Ok(value) => value,
        Err(error) => panic!("the store failed: {error} ({error:?})"),
    }
}

/// Runs a call that must fail, and answers the word of its error.
///
/// # Panics
///
/// If it succeeds.
pub fn refused<T>(call: Fut<'_, T>) -> crate::Error {
    match block_on(call) {
        Ok(_) => panic!("the store took what it must refuse"),
        Err(error) => error,
    }
}

/// Expands to one test per check. See the [module](mod@crate::conformance).
#[macro_export]
macro_rules! conformance {
    ($open:expr) => {
        $crate::conformance!(@checks $open;
            hubs {
                a_created_hub_is_listed
                a_hub_exists_once_whatever_its_case
                a_deleted_hub_is_gone
                deleting_a_missing_hub_says_so
                hubs_do_not_see_each_other
                deleting_a_hub_leaves_the_others
                a_hub_made_anew_is_empty_and_knows_no_old_fence
            }
            fences {
                every_claim_raises_the_epoch
                a_claim_takes_all_or_nothing
                a_partition_that_a_claim_names_twice_is_claimed_twice
                an_old_epoch_is_fenced_and_leaves_nothing
                fences_are_per_partition
                a_bad_section_fails_the_whole_group
                a_gap_in_the_numbers_is_refused
                a_partition_may_have_several_sections_in_a_group
                recovering_under_an_old_epoch_is_refused
                a_release_marks_the_partition_clean_and_a_claim_clears_it
                nothing_is_committed_after_a_release
            }
            commits {
                an_empty_group_changes_nothing
                a_created_instance_loads_as_core_made_it
                states_come_in_the_order_asked_for
                a_sequence_of_activities_is_the_same_commit_by_commit_and_as_one_group
                what_a_commit_did_is_visible_when_it_returns
                statuses_follow_suspend_resume_and_terminate
                custom_status_is_set_kept_and_cleared
                a_stall_is_set_and_ends
                delivery_counts_are_kept
                a_wide_fan_out_is_taken_in_and_answered
                work_is_counted
                upkeep_finds_nothing_wrong
            }
            generations {
                replacing_leaves_nothing_of_the_old
                replacing_within_one_group_leaves_nothing_of_the_old
                purging_leaves_nothing
                an_instance_may_come_go_and_come_again_in_one_group
                continue_as_new_keeps_earlier_histories_apart
                only_the_newest_earlier_executions_are_kept
                continue_as_new_works_within_one_group
                inputs_of_every_length_are_kept_over_generations
                activities_of_an_earlier_execution_stay_open
            }
            messages {
                an_outbox_item_stays_until_its_receiver_took_it
                an_item_that_comes_and_goes_in_one_group_leaves_nothing
                an_outbox_outlives_its_purged_sender
                a_receiver_that_is_missing_still_takes_the_item
                a_message_that_is_delivered_twice_is_recognised
                a_child_runs_and_its_parent_hears_of_it
                an_inbox_is_kept_in_order_with_its_numbers
                carried_events_are_kept_with_the_start_message
            }
            payloads {
                absent_empty_and_odd_payloads_stay_apart
                every_member_of_a_status_record_comes_back
                large_payloads_come_back_whole
                keys_come_back_oldest_first_and_expire
                ids_are_opaque_text
            }
            recovery {
                a_new_partition_counts_from_the_start
                counters_go_on_and_never_back
                open_work_is_listed_exactly
                finished_work_is_not_listed
                unread_messages_are_counted_in_bytes
                recovery_is_by_partition
            }
            listing {
                a_page_is_ordered_by_created_time_then_id
                a_page_of_large_records_is_short_and_says_where_the_next_begins
                payloads_that_are_not_wanted_are_left_out_and_do_not_count
                pages_join_without_gap_or_overlap
                each_filter_alone_and_combined_agrees_with_a_naive_one
                a_filter_by_name_finds_every_spelling
                a_page_begins_behind_any_place
                wildcards_in_a_prefix_are_plain_characters
                s_list_stable
                counts_follow_every_change
                fingerprints_are_paged_by_number
                a_question_about_a_missing_hub_is_refused
                history_can_be_read_from_any_event
            }
            model {
                random_commits_leave_what_core_says
                random_commits_one_by_one_leave_what_core_says
            }
        );
    };
    ($open:expr, reopen = $reopen:expr) => {
        $crate::conformance!($open);
        $crate::conformance!(@reopening $open, $reopen;
            everything_is_there_after_reopening
            epochs_go_on_after_reopening
            a_clean_stop_is_remembered
            a_deleted_hub_stays_deleted
        );
    };
    (@nodes $open:expr) => {
        $crate::conformance!(@checks $open;
            nodes {
                what_a_living_node_owns_is_left_alone
                what_a_node_owned_is_free_when_its_lease_is_over
                beats_keep_a_lease_and_tell_of_others
                a_beat_after_the_lease_is_refused
                what_is_stolen_is_fenced
                what_is_given_back_is_free_at_once
            }
        );
    };
    (@checks $open:expr; $($module:ident { $($check:ident)* })*) => {
        $($(
            #[test]
            fn $check() {
                let (store, _guard) = $open;
                $crate::conformance::$module::$check(&store);
            }
        )*)*
    };
    (@reopening $open:expr, $reopen:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                let (store, guard) = $open;
                $crate::conformance::reopening::$check(store, guard, $reopen);
            }
        )*
    };
}
