# SPDX-License-Identifier: MIT
#
# What a program in Perl does with memory. What it prints depends on nothing but itself and its
# argument, how many rows.

use strict;
use warnings;

my $rows = shift // 25000;
my $seed = 7;

sub draw {
    my ($below) = @_;
    $seed = ($seed * 1103515245 + 12345) % 2147483648;
    return int($seed / 65536) % $below;
}

my (%of, @rows);
for my $i (1 .. $rows) {
    my $key = join '', map { chr(97 + draw(12)) } 1 .. 1 + draw(8);
    push @{ $of{$key} }, $i;
    push @rows, { key => $key, rank => draw(1000), text => 'x' x draw(200) };
}
my @long = sort { @{ $of{$b} } <=> @{ $of{$a} } || $a cmp $b } keys %of;
print scalar(@long), " keys, ", join(' ', @long[0 .. 9]), "\n";

my @sorted = sort { $a->{rank} <=> $b->{rank} || $a->{key} cmp $b->{key} } @rows;
print join(' ', map { "$_->{key}:$_->{rank}" } @sorted[100 .. 110]), "\n";

my $text = join ' ', map { $_->{key} } @rows;
my %pairs;
$pairs{"$1$2"}++ while $text =~ /([a-d])\w*?([e-h])/g;
print join(' ', map { "$_=$pairs{$_}" } sort keys %pairs), "\n";
(my $turned = $text) =~ s/\b(\w)(\w+)\b/$2$1/g;
print length($turned), ' ', unpack('%32C*', $turned), "\n";

my $grown = '';
$grown .= chr(33 + $_ % 90) x ($_ % 100) for 1 .. $rows / 2;
print length($grown), ' ', unpack('%32C*', $grown), "\n";

my @subs = map { my $n = $_; sub { $n += shift } } 1 .. $rows / 2;
my $sum = 0;
$sum += $_->(3) for @subs;
delete $of{$_} for @long[0 .. @long / 2];
print $sum, ' ', scalar(keys %of), "\n";
