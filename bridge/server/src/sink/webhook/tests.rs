//! Webhooks with a server in memory and time in hand.
