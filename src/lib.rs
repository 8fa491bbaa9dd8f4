//! Cross-modal retrieval.
