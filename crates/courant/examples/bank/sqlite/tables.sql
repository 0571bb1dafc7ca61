create table accounts (account integer primary key, cents integer not null, movements integer not null);
create table movements (n integer primary key autoincrement, transfer integer not null, account integer not null,
    cents integer not null, log_offset integer not null);
create table notes (what text not null, about integer not null, number integer not null);
