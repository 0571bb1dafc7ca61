insert into accounts (account, cents, movements) values ($1, $2, 0) on conflict do nothing
