insert into notes (what, about, number) values ($1, $2, $3)
