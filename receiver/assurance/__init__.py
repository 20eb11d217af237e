"""What events are checked against: issuers' logs are followed, providers asked, and what is found out is passed on."""
