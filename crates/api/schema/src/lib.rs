//! Generated schema tables and everything that reads them: normalisation, protobuf decoding, OpenAPI, discovery.
