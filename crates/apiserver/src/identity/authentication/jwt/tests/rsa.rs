//! Tokens that OpenSSL signed with an RSA key of 2048 bits, which nobody has any more: ring makes none.

/// The modulus of the public key; its exponent is 65537.
pub const MODULUS: &str = "372lynvi_XW9D0HRgdBmUiC6JKLeflyneM3DbZmryzoPrA7DQw8DkbTG1LxasaAuSRW-SbtVZozN2afcVutek9t9Uk97QcnsiY9TMa9TiW0emTQe4rblif6s4kf0SI2cLtnATKMHcmqVcVng_Fwwe2PzJNsR37HXkRoPe81mPgpLXHzv-B2igGNZh98fX9EpjyDB-Q1f08ftXqBNqb6m52iyo5ypNzI4MIqnnRdQ9R47B5xuOeKJDGmZMXph0MmPr8mdVWi9PWsIvd7dleENmzoVh_7TX1S56fHdTifqVe2xxpx3TvR_qPsugQ9OoJ04-ApfnlCtuPeewjNxTaZA3Q";

/// A token of each algorithm, over `{"iss":"https://issuer","sub":"jane"}` and the key id `r`.
pub const TOKENS: [(&str, &str); 6] = [
    (
        "RS256",
        "eyJhbGciOiJSUzI1NiIsImtpZCI6InIifQ.eyJpc3MiOiJodHRwczovL2lzc3VlciIsInN1YiI6ImphbmUifQ.0TPs5U7fkDRhazIR7hnRY7BMVA27C9BsiYOQWRrKsq9diBwhsh_xUwe-nU1O-Sj3t769B3z-j6sI4o8E2jNGrWCoBaLbDNDeHVhalBb3TVL1uTubXrtJaCUE_ScY-EzaUE_UFGHkKoCY6K58fU9m2_JbouHD-aps1Bw3gcTfQ9mtBYuhaYb8iK5gKT3Baao37ICEuCnoJyUXTLNQD5Q0QkV_YIwEATe5nzS2nlg4WuLfF-14iOCPabrSymu9ToaaO1J4eZjllqSxYgQOWZi2oYsIvP0bqEH5hTcLdE4UKY8_FsomvNI16HY8GpAAwYd7zr7ycy4dZNDHrKrjSbAkBg",
    ),
    (
        "RS384",
        "eyJhbGciOiJSUzM4NCIsImtpZCI6InIifQ.eyJpc3MiOiJodHRwczovL2lzc3VlciIsInN1YiI6ImphbmUifQ.gD3C5BcPiL4v9PFmUc-BbTNBjCW8n51EqHHmFnWd19XoGxpVQMGKt4y0XLs0wrGksli_22f5g2umrYk74NkrKoMxCWxJ3Y3TaMqE7YGj2ir2T4-xmOnNiJV9iEMCsT5AYMGcGGy2q4nHUiDMS3F3azOIs-7qamm0vFoN9xrq37DBnCYFy22GA7YqTysVfQQN-mn3HrpxN6g6BqyWlY59RdSWhsLiCUgAFKHchouISgIhBNP5ihB_DznlpsN5jXehFmX5uoM2aj5FbPmzsf77ubIYJm0gTfBNgdTpMv00AV6Mxp9f27eFJ6BIjh5VqItUjW48zItEPdESPJgXn16OMg",
    ),
    (
        "RS512",
        "eyJhbGciOiJSUzUxMiIsImtpZCI6InIifQ.eyJpc3MiOiJodHRwczovL2lzc3VlciIsInN1YiI6ImphbmUifQ.Wic0qwijxWwStG4yCuS8KF504bCJXZSdTqvgIPepwFYLy6KKCy881kw9HMXsGFUpudNkrboxKx6G84xVzc11fZFcAqqvWBCOYipCMCN6brsYY39ZnkC19HlaypFwm8d4XDnNhXlpntzjsOa4yvrM1LO0sjV36vHjYsm8vPdOQ2XrIH6_yRPfiN9OKWVLljd767-BRENxE4Cyyuo-Mqe5Rz6R1zaKqJpX4C7rwrD_JUH3oCinDIfoezeMOivdIosSRxittnXzGlpg5h7fGq9yV_hC1oy--TaatojZ5YNuJU_2XFUGaXdnFrwfEb2aZGvlJSblj98ZpWtlu67XadfYuw",
    ),
    (
        "PS256",
        "eyJhbGciOiJQUzI1NiIsImtpZCI6InIifQ.eyJpc3MiOiJodHRwczovL2lzc3VlciIsInN1YiI6ImphbmUifQ.1WpEPjsLbRpTsN1bwIfZ23NEQ7m5d0CKB_k9BEnkqWaCjqUhlp02gI87q2pV0PnwHbtfFhCbe3GNaQ4za4BasbMWtkkRO2tC2QUKsIlWlGQvgnnS8YMb3JZXJA8BZ8jvnKKcsuxdEV0GBsu_YbX0WZSIoMeJp8wiwnPI8-XHa4qZGEmHqgoQGudDPhniLmz3IJEbEBO_ER7BMBLTxHwgJQWBFqn3HDUlToKuzLGskOg-dmNZU8lDPaUJLNRBBLfd6ZNZTQOzoHN-WQI6lW7Q80_cq4z5qh3q_UvbyAPalOFa5Tsr6AltGxyEO-DoBgDzC1Jmst1yXoXG-WFRL3ayrw",
    ),
    (
        "PS384",
        "eyJhbGciOiJQUzM4NCIsImtpZCI6InIifQ.eyJpc3MiOiJodHRwczovL2lzc3VlciIsInN1YiI6ImphbmUifQ.dAPW46KMKRe1VMGyHKtPZIxvSPMIFd2J2ig7rhzHijMMNfJ6zgGcSEvwbOrcu88o7baFtikDQG4M3klPYhOl0UnIFFIOiPbl0pthPMw_hTw51lA6C36DyH7wytVUaequfe4CVEPPWV2o7mDnx7wjF4nQv7BEEN5wzzKCQRw5FCzanTIrFNWgHw-SE-2Km53eqJmwWpZMPOI1wQsMaZXBB6nCdXeagEbvLD-eREuiGPFE0ep0rQ_sl7yZzfMF8IoZjRX2kfdXWmB5h5CvdSp-NIp-VkvyFjVU7s5UiJeVDRXIfif3O5uMCZpdg_7C7KT2c9T6TBPpceaEHUek-HWf_w",
    ),
    (
        "PS512",
        "eyJhbGciOiJQUzUxMiIsImtpZCI6InIifQ.eyJpc3MiOiJodHRwczovL2lzc3VlciIsInN1YiI6ImphbmUifQ.kqxa9FvtwihWFYCxgzwR_H7MvK4z8ozDVYJYYqyBOz9up7iNF9eSBawTprGyp6vFSBRPqHuk4kSOYecmWy0tt3bSoBxcemynhYcARzydh7DazRmK7RpMcPD04IvtPf0e1pczYbp5YpcYo6FgPZtgqkW6bh5yT1gCB3WDc6otjFlx_n-IDA-yNPUvHlceR-8XFrkbShF1Vzz92turek3OeMIzL8F9tm9O8Ahhzn71C_Af4whEbmwczFf0ZWsZtWjmgZV8vJGhzZjnPTOQ-m1e7mPofwTA8Ngir3PZcTHWVjPrWRmwfhYqnBw-bh1Jxe4Kx0GlY4PVGrvUkYIZK4mGaw",
    ),
];
