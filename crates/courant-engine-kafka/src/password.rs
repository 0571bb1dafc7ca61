//! The one variable of the environment that is read in a library: that which a URL names, so that no password has to
//! stand in it.

/// The password in a variable. `None`: it is not set, is empty, or is no text.
pub(crate) fn of(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|password| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_not_set_has_no_password() {
        assert!(of("PATH").is_some());
        assert_eq!(of("there is=none of this name"), None);
    }
}
