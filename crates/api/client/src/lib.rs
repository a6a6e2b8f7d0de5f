//! The one way to talk to the API server: requests, transports, informers.
