//! What an object is: the value tree, JSON, quantities, times, selectors, Status.
