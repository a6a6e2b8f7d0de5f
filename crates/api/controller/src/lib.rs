//! Work queues and the reconciler loop.
