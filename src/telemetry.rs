//! Logs: one set-up for the process. Events come from the control plane; the request path logs nothing unless something is wrong.
