insert into notes (what, about, number) values (?, ?, ?)
