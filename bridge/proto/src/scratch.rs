//! Buffers that are needed only while something is handled, lent by the thread that handles it. Keeps nothing of any call.
//!
//! A thread serves thousands of calls in turn. If each call had buffers of its own, every frame would fetch kilobytes of them from
//! far memory, to be overwritten; lent ones are still in the nearest cache from the call before, and cost no call any memory.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

/// Buffers of a kind that a thread keeps for the next use.
const KEPT: usize = 16;
/// Buffers that grew beyond this (octets) are given back to the system.
const LARGEST: usize = 64 * 1024;

/// A kind of buffer that can be lent. Its default must cost nothing: one stands in for each buffer that goes back.
pub trait Lend: Default + 'static {
    /// Where a thread keeps them.
    fn shelf() -> &'static LocalKey<RefCell<Vec<Self>>>;

    /// Forgets the content, keeps the memory.
    fn wipe(&mut self);

    /// Memory it holds, in octets.
    fn octets(&self) -> usize;
}

/// A lent buffer, empty at first; goes back when dropped, on whatever thread that is.
pub struct Scratch<T: Lend>(T);

impl<T: Lend> Scratch<T> {
    /// An empty buffer.
    #[must_use]
    pub fn lend() -> Self {
        let kept = T::shelf().try_with(|shelf| shelf.borrow_mut().pop());
        Self(kept.ok().flatten().unwrap_or_default())
    }
}

impl<T: Lend> Default for Scratch<T> {
    fn default() -> Self {
        Self::lend()
    }
}

impl<T: Lend> Drop for Scratch<T> {
    fn drop(&mut self) {
        if self.0.octets() > LARGEST {
            return;
        }
        let mut buffer = std::mem::take(&mut self.0);
        buffer.wipe();
        // A thread that is ending keeps nothing.
        let _ = T::shelf().try_with(|shelf| {
            let mut shelf = shelf.borrow_mut();
            if shelf.len() < KEPT {
                shelf.push(buffer);
            }
        });
    }
}

impl<T: Lend> Deref for Scratch<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Lend> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Lend + fmt::Debug> fmt::Debug for Scratch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Samples.
pub type Pcm = Scratch<Vec<i16>>;
/// Octets.
pub type Octets = Scratch<Vec<u8>>;

impl Lend for Vec<i16> {
    fn shelf() -> &'static LocalKey<RefCell<Vec<Self>>> {
        thread_local! { static SHELF: RefCell<Vec<Vec<i16>>> = const { RefCell::new(Vec::new()) } }
        &SHELF
    }

    fn wipe(&mut self) {
        self.clear();
    }

    fn octets(&self) -> usize {
        self.capacity() * size_of::<i16>()
    }
}

impl Lend for Vec<u8> {
    fn shelf() -> &'static LocalKey<RefCell<Vec<Self>>> {
        thread_local! { static SHELF: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) } }
        &SHELF
    }

    fn wipe(&mut self) {
        self.clear();
    }

    fn octets(&self) -> usize {
        self.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_is_lent_again_and_empty() {
        let mut first = Pcm::lend();
        first.extend([1; 1_000]);
        let memory = first.as_ptr();
        drop(first);
        let second = Pcm::lend();
        assert!(second.is_empty() && second.capacity() >= 1_000);
        assert_eq!(second.as_ptr(), memory);
        assert_eq!(Pcm::lend().capacity(), 0, "two at a time are two");
    }

    #[test]
    fn a_thread_keeps_few_and_none_that_is_large() {
        drop((0..100).map(|_| Octets::lend()).collect::<Vec<_>>());
        assert_eq!(<Vec<u8>>::shelf().with(|shelf| shelf.borrow().len()), KEPT);
        let mut large = Octets::lend();
        large.reserve(LARGEST + 1);
        drop(large);
        let kept =
            <Vec<u8>>::shelf().with(|shelf| shelf.borrow().iter().all(|b| b.capacity() == 0));
        assert!(kept);
    }
}
