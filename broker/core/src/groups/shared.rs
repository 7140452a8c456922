//! What costs nothing to copy as long as it is not changed.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A value that its copies share until one of them changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shared<T>(Arc<T>);

#[cfg(test)]
thread_local! {
    /// How many values were really copied.
    pub(super) static COPIES: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        #[cfg(test)]
        COPIES.with(|copies| copies.set(copies.get() + u64::from(Arc::strong_count(&self.0) > 1)));
        Arc::make_mut(&mut self.0)
    }
}
