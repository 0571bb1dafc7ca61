insert ignore into accounts (account, cents, movements) values (?, ?, 0)
