create table accounts (account bigint primary key, cents bigint not null, movements bigint not null);
create table movements (n bigint auto_increment primary key, transfer bigint not null, account bigint not null,
    cents bigint not null, log_offset bigint not null);
create table notes (what varchar(40) not null, about bigint not null, number bigint not null);
